"""The contract of an application, and what a change of it breaks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from eventstore import Command, Decider, Domain, Event, Query
from eventstore.contracts import Contract, asyncapi, breaking_changes, describe
from eventstore.errors import ConfigurationError
from projections import app as shipped


class Price(Struct):
    amount: int
    currency: str = "EUR"


class Place(Command, subject="order.place", creates=True):
    price: Price
    note: str | None = None


class Placed(Event, subject="order.placed"):
    price: Price
    size: Literal["s", "m"] = "s"


class View(Struct):
    id: str
    total: int


class GetOrder(Query[View], subject="order.get"):
    id: str


def domain(
    *events: type[Event], command: type[Command] = Place, **upcasts: tuple[str, int]
) -> Domain:
    order: Decider[int] = Decider("order", initial=int)

    def decide(_state: int, _command: Any) -> list[Event]:
        return []

    order.decides(_annotated(decide, _command=command, returns=list[Event]))
    for event in events or (Placed,):

        def evolve(state: int, _event: Any) -> int:
            return state

        order.evolves(_annotated(evolve, _event=event, returns=int))
    for source, target in upcasts.items():
        name, _, version = source.rpartition("_")
        order.upcasts(name, int(version), to=target)(_same)
    return Domain("shop", [order])


def _annotated(function: Any, returns: Any, **types: Any) -> Any:
    function.__annotations__ = {**function.__annotations__, **types, "return": returns}
    return function


def _same(data: dict[str, Any]) -> dict[str, Any]:
    return data


BEFORE = describe(domain(), [GetOrder], version="1.0.0")


def found(now: Domain | None = None, *queries: type[Query[Any]]) -> list[str]:
    changed = describe(now or domain(), queries or [GetOrder])
    return [
        f"{each.affects}: {each.message}: {each.problem}"
        for each in breaking_changes(BEFORE, changed)
    ]


def renamed(cls: Any, name: str) -> Any:
    cls.__name__ = name
    return cls


def test_a_contract_has_every_message_and_survives_json() -> None:
    kinds = [(each.kind, each.name, each.subject) for each in BEFORE.messages]
    assert kinds == [
        ("command", "Place", "shop.cmd.order.place"),
        ("event", "Placed", "shop.event.order.placed"),
        ("query", "GetOrder", "shop.query.order.get"),
    ]
    assert BEFORE.messages[0].creates
    assert set(BEFORE.definitions) == {"Place", "Placed", "Price", "GetOrder", "View"}
    assert Contract.from_json(BEFORE.to_json()) == BEFORE


def test_the_same_contract_breaks_nothing() -> None:
    assert found() == []
    nix = describe(shipped.domain, shipped.query_types)
    assert breaking_changes(nix, nix) == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"nonsense", "it is not a contract"),
        (b"{}", "it is not a contract"),
        (BEFORE.to_json().replace(b'"format": 1', b'"format": 2'), "has format 2"),
    ],
)
def test_what_is_no_contract_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        Contract.from_json(data)


def test_added_messages_fields_with_defaults_and_wider_types_break_nothing() -> None:
    class Cancelled(Event, subject="order.cancelled"):
        reason: str

    class WiderPlaced(Event, subject="order.placed"):
        price: Price
        size: Literal["s", "m"] = "s"
        gift: bool = False

    class WiderPlace(Command, subject="order.place", creates=True):
        price: Price
        note: str | int | None = None
        gift: bool = False

    wider = domain(renamed(WiderPlaced, "Placed"), Cancelled, command=renamed(WiderPlace, "Place"))
    assert found(wider) == []


def test_a_field_without_a_default_breaks_stored_events_and_senders() -> None:
    class WithMore(Event, subject="order.placed"):
        price: Price
        size: Literal["s", "m"] = "s"
        customer: str

    class PlaceMore(Command, subject="order.place", creates=True):
        price: Price
        note: str | None = None
        customer: str

    changed = domain(renamed(WithMore, "Placed"), command=renamed(PlaceMore, "Place"))
    assert found(changed) == [
        "stored events: event Placed: data.customer: is required, and could be left out; "
        "raise schema_version",
        "senders: command Place: data.customer: is required, and could be left out",
    ]


def test_an_upcaster_saves_stored_events_and_subscribers_are_told() -> None:
    class Second(Event, subject="order.placed", schema_version=2):
        amount: int

    changed = domain(renamed(Second, "Placed"), Placed_1=("Placed", 2))
    assert found(changed) == [
        "subscribers: event Placed: a reader of the earlier contract is given what it refuses: "
        "data.price: is required, and could be left out"
    ]


def test_a_removed_field_of_a_command_is_refused_as_unknown() -> None:
    class Less(Command, subject="order.place", creates=True):
        price: Price

    assert found(domain(command=renamed(Less, "Place"))) == [
        "senders: command Place: data.note: is refused as unknown"
    ]


def test_narrower_values_and_other_types_are_found_where_they_are() -> None:
    class Narrow(Struct):
        amount: Annotated[int, Meta(ge=0)]
        currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] = "EUR"

    class NarrowPlaced(Event, subject="order.placed"):
        price: renamed(Narrow, "Price")  # type: ignore[valid-type]
        size: Literal["s"] = "s"

    NarrowPlaced.__annotations__["price"] = Narrow
    assert found(domain(renamed(NarrowPlaced, "Placed"))) == [
        "stored events: event Placed: data.price.amount: minimum is 0, and was not there; "
        "raise schema_version",
        "stored events: event Placed: data.price.currency: pattern is '^[A-Z]{3}$', and was "
        "'not there'; raise schema_version",
        "stored events: event Placed: data.size: the value 'm' is refused, which was valid; "
        "raise schema_version",
    ]


def test_removed_messages_break_those_who_use_them() -> None:
    class Other(Event, subject="order.other"):
        pass

    class Send(Command, subject="order.send"):
        pass

    class ListOrders(Query[View], subject="order.list"):
        pass

    assert found(domain(Other, command=Send), ListOrders) == [
        "stored events: event Placed: is gone, and no upcaster reads it",
        "subscribers: event Placed: is not published any more",
        "senders: command Place: shop.cmd.order.place is not carried out any more",
        "askers: query GetOrder: shop.query.order.get is not answered any more",
    ]


def test_an_event_that_is_read_as_another_one_breaks_subscribers_alone() -> None:
    class Ordered(Event, subject="order.placed"):
        price: Price

    changed = domain(Ordered, Placed_1=("Ordered", 1))
    assert found(changed) == ["subscribers: event Placed: is not published any more"]


def test_an_answer_without_a_field_breaks_those_who_read_it() -> None:
    class Short(Struct):
        id: str

    class GetShort(Query[Short], subject="order.get"):
        id: str

    assert found(None, GetShort) == [
        "askers: query GetOrder: a reader of the earlier contract is given what it refuses: "
        "answer.total: is required, and could be left out"
    ]


class Tree(Struct):
    name: str
    children: list[Tree]


class WiderTree(Struct):
    name: str | None
    children: list[WiderTree]


def test_types_that_contain_themselves_are_compared() -> None:
    class Planted(Event, subject="order.planted"):
        tree: Tree

    class WiderPlanted(Event, subject="order.planted"):
        tree: WiderTree

    before = describe(domain(Planted))
    after = describe(domain(renamed(WiderPlanted, "Planted")))
    assert [str(each) for each in breaking_changes(before, after)] == [
        "event Planted: a reader of the earlier contract is given what it refuses: "
        "data.tree.name: null is refused, string is expected (breaks subscribers)"
    ]


def test_another_domain_is_one_breaking_change() -> None:
    other = msgspec.structs.replace(BEFORE, domain="store")
    (only,) = breaking_changes(BEFORE, other)
    assert str(only) == "domain shop: is named store: all subjects change (breaks senders)"


def test_the_document_has_a_channel_and_an_operation_for_each_message() -> None:
    document = asyncapi(BEFORE)

    assert document["asyncapi"] == "3.0.0"
    assert document["info"] == {"title": "shop", "version": "1.0.0"}
    actions = {name: each["action"] for name, each in document["operations"].items()}
    assert actions == {
        "command.Place": "receive",
        "event.Placed": "send",
        "query.GetOrder": "receive",
    }
    assert document["channels"]["event.Placed"]["address"] == "shop.event.order.placed"
    reply = document["operations"]["command.Place"]["reply"]
    assert reply["address"] == {"location": "$message.header#/X-Reply-To"}
    text = msgspec.json.encode(document)
    assert b"#/definitions/" not in text
    assert b"#/components/schemas/Price" in text


def test_a_contract_that_refers_to_what_it_does_not_define_is_refused() -> None:
    kept = msgspec.structs.replace(BEFORE.messages[0], schema={"$ref": "#/definitions/Gone"})
    damaged = msgspec.structs.replace(BEFORE, messages=[kept])
    with pytest.raises(ConfigurationError, match="no definition of Gone"):
        Contract.from_json(damaged.to_json())
