"""Values that would be read as others are found, and those merely converted are not."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from msgspec import Struct

from eventstore.errors import InvalidPayload
from eventstore.messages.codec import Codec
from eventstore.messages.fidelity import difference
from eventstore.messages.types import Command, Event
from eventstore.testing import scenario
from tests.unit.test_decider import make_door

BERLIN = ZoneInfo("Europe/Berlin")
HERE = timezone(timedelta(hours=2))


class Base(Struct, frozen=True):
    name: str = ""


class Derived(Base, frozen=True):
    secret: str = ""


class Text(str):
    __slots__ = ()


class Number(int):
    __slots__ = ()


class Moment(datetime):
    pass


class Colour(enum.Enum):
    RED = "red"


class Shade(enum.StrEnum):
    DARK = "dark"


class Noted(Event, subject="note.noted"):
    text: str = ""
    number: int = 0
    share: float = 0.0
    rest: float | None = None
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    hour: time = time(12)
    price: Decimal = Decimal(1)
    colour: Colour = Colour.RED
    part: Base = Base()
    parts: tuple[Base, ...] = ()
    names: frozenset[str] = frozenset()
    by_number: dict[int, str] = {}  # noqa: RUF012  # msgspec copies it
    by_name: dict[str, Any] = {}  # noqa: RUF012
    anything: Any = None
    items: Sequence[int] = ()
    numbers: list[int] = []  # noqa: RUF012
    raw: msgspec.Raw = msgspec.Raw(b"null")
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class Note(Command, subject="note.note", creates=True):
    part: Base = Base()
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)


CODEC = Codec("notes", [Note], [Noted])

LOST: dict[str, tuple[Event, str]] = {
    "a derived struct": (Noted(part=Derived("a", "b")), "part"),
    "a derived struct in a tuple": (Noted(parts=(Base("a"), Derived("a", "b"))), "parts[1]"),
    "an offset with seconds": (
        Noted(at=datetime(1930, 5, 1, 12, tzinfo=ZoneInfo("Europe/Amsterdam"))),
        "at",
    ),
    "an hour's offset with seconds": (
        Noted(hour=time(12, tzinfo=timezone(timedelta(minutes=19, seconds=32)))),
        "hour",
    ),
    "a kind of text": (Noted(text=Text("a")), "text"),
    "a member for a text": (Noted(text=Shade.DARK), "text"),
    "a kind of number": (Noted(number=Number(1)), "number"),
    "a kind of time": (Noted(at=Moment(2026, 1, 1, tzinfo=UTC)), "at"),
    "a float for an int": (Noted(number=5.0), "number"),  # type: ignore[arg-type]
    "not a number": (Noted(rest=float("nan")), "rest"),
    "an infinity": (Noted(anything={"a": [float("inf")]}), "anything"),
    "a large int as a float": (Noted(share=2**53 + 1), "share"),
    "a tuple in anything": (Noted(anything=(1, 2)), "anything"),
    "a set in anything": (Noted(anything={1}), "anything"),
    "a time in anything": (Noted(anything=datetime(2026, 1, 1, tzinfo=UTC)), "anything"),
    "bytes in anything": (Noted(anything=b"a"), "anything"),
    "a struct in anything": (Noted(anything=Base("a")), "anything"),
    "a number as a key": (Noted(by_name={1: 2}), "by_name"),  # type: ignore[dict-item]
    "half of a pair": (Noted(text="\ud800"), "text"),
    "half of a pair in anything": (Noted(anything=["\udfff"]), "anything"),
    "a counter": (Noted(by_name=Counter("aab")), "by_name"),
    "the second of two equal times": (Noted(at=datetime(2024, 10, 27, 2, 30, fold=1)), "at"),
    "the second of two equal hours": (Noted(hour=time(2, 30, fold=1)), "hour"),
    "an hour's zone": (Noted(hour=time(2, 30, tzinfo=BERLIN)), "hour"),
    "an ordered dict": (Noted(by_name=OrderedDict(a=1)), "by_name"),
    "a tuple in a dict": (Noted(by_name={"a": ("b",)}), "by_name"),
}


@pytest.mark.parametrize(("event", "field"), LOST.values(), ids=LOST)
def test_what_would_be_lost_is_refused_and_the_field_is_named(event: Event, field: str) -> None:
    with pytest.raises(InvalidPayload) as caught:
        CODEC.encode(event)
    assert f"`$.{field}" in str(caught.value)


def test_the_same_of_commands() -> None:
    with pytest.raises(InvalidPayload, match=r"\$\.part"):
        CODEC.encode(Note(part=Derived("a", "b")))


def test_a_value_is_not_shown() -> None:
    with pytest.raises(InvalidPayload) as caught:
        CODEC.encode(Noted(part=Derived("anna", "anna@example.org")))
    assert "anna" not in str(caught.value)


KEPT: dict[str, Event] = {
    "offsets": Noted(at=datetime(2024, 10, 27, 1, 30, tzinfo=HERE)),
    "a zone's offset": Noted(at=datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)),
    "a time without a zone": Noted(at=datetime(2024, 1, 1)),
    "negative zero": Noted(share=-0.0),
    "an exact decimal": Noted(price=Decimal("1.00")),
    "numbers as keys": Noted(by_number={1: "a", 2: "b"}),
    "members": Noted(names=frozenset("abc")),
    "bytes as they are": Noted(raw=msgspec.Raw(b' {"a": [1] }\n')),
    "what is not left out": Noted(left_out=1),
    "a large int": Noted(number=10**30, anything=2**64),
    "nested": Noted(anything={"a": [1, 2.5, None, {"b": True}]}, parts=(Base("a"), Base("b"))),
}


@pytest.mark.parametrize("event", KEPT.values(), ids=KEPT)
def test_what_is_preserved_is_written(event: Event) -> None:
    assert difference(event, CODEC.round_trip(event)[1]) is None


CONVERTED: dict[str, Event] = {
    "an int for a float": Noted(share=5),
    "a list for a tuple": Noted(parts=[Base("a")]),  # type: ignore[arg-type]
    "a tuple for a sequence": Noted(items=(1, 2)),
    "a tuple for a list": Noted(numbers=(1, 2)),  # type: ignore[arg-type]
    "a set for a frozen one": Noted(names={"a"}),  # type: ignore[arg-type]
    "a text for a time": Noted(at="2026-01-01T00:00:00+02:00"),  # type: ignore[arg-type]
    "a value for its member": Noted(colour="red"),  # type: ignore[arg-type]
    "an object for a struct": Noted(part={"name": "a"}),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("event", CONVERTED.values(), ids=CONVERTED)
def test_what_is_turned_into_its_declared_type_is_written(event: Event) -> None:
    assert CODEC.encode(CODEC.round_trip(event)[1])


def test_scenarios_refuse_what_the_log_would() -> None:
    with pytest.raises(InvalidPayload, match="part"):
        scenario(make_door()).given(Noted(part=Derived("a", "b")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (float("nan"), float("nan")),
        ([1], (1,)),
        ([1], [True]),
        ({1}, frozenset({1})),
        ({1}, {True}),
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {1: "a"}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, Counter("a")),
        (b"a", bytearray(b"a")),
        (Decimal("1.0"), Decimal("1.00")),
        (Colour.RED, "red"),
        (Shade.DARK, "dark"),
        (Base("a"), Derived("a")),
        (datetime(2026, 1, 1, 2, tzinfo=HERE), datetime(2026, 1, 1, 0, tzinfo=UTC)),
        (datetime(2026, 7, 1, 1, tzinfo=BERLIN), datetime(2026, 7, 1, 1, tzinfo=HERE)),
        (datetime(2026, 1, 1, fold=1), datetime(2026, 1, 1)),
        (time(1, fold=1), time(1)),
    ],
    ids=repr,
)
def test_a_snapshot_has_to_be_exact(one: Any, other: Any) -> None:
    for wrap in (lambda x: x, lambda x: [x], lambda x: {"a": x}, lambda x: (x, [{"b": x}])):
        assert difference(wrap(one), wrap(other), exact=True)
        assert difference(wrap(other), wrap(one), exact=True)


def test_what_is_the_same_differs_in_nothing() -> None:
    event = Noted(anything={"a": [1, (2, Base("x"))], "b": {1, 2}}, by_number={1: "a"})
    assert difference(event, msgspec.structs.replace(event), exact=True) is None
