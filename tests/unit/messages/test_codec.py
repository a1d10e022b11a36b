from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from eventstore.errors import (
    DeciderError,
    InvalidHeader,
    InvalidPayload,
    InvalidSubject,
    UnknownType,
    UnsupportedSchema,
)
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, Identity, format_timestamp
from eventstore.messages.headers import Header
from eventstore.messages.types import Command, Event

TIME = datetime(2026, 1, 1, tzinfo=UTC)
OWN = "00000000-0000-4000-8000-000000000001"
CORRELATION = "00000000-0000-4000-8000-000000000002"


class Part(Struct, frozen=True):
    label: str
    weight: float | None = None
    parts: list[Part] = []


class MakeThing(Command, subject="thing.make", creates=True):
    name: str
    size: int
    price: float = 0.0
    note: str | None = None
    tags: list[str] = []  # noqa: RUF012  # msgspec copies it
    part: Part | None = None


class ThingMade(Event, subject="thing.made", schema_version=2, since=2):
    name: str
    size: int
    price: float = 0.0
    note: str | None = None
    tags: list[str] = []  # noqa: RUF012  # msgspec copies it
    part: Part | None = None


def make_unknown() -> type[Event]:
    class Inner(Struct):
        text: str

    class Unknown(Event, subject="thing.unknown"):
        inner: Inner

    return Unknown


class Ambiguous(Event, subject="thing.ambiguous"):
    at: datetime | str


class Foreign(Event, subject="thing.foreign"):
    parts: list[dict[str, complex | None]]


class Anything(Event, subject="thing.anything"):
    content: object = None


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (make_unknown(), "Unknown: annotation not understood, name 'Inner' is not defined; define"),
        (Ambiguous, "Ambiguous: Type unions may not contain more than one str-like type"),
        (Foreign, "Foreign: JSON cannot hold a complex; use a msgspec Struct"),
    ],
)
def test_a_field_that_json_cannot_hold_is_refused(event: type[Event], problem: str) -> None:
    with pytest.raises(DeciderError, match=problem):
        Codec("shop", commands=[], events=[event])


def test_a_field_may_be_of_any_type() -> None:
    codec = Codec("shop", commands=[], events=[Anything])
    assert codec.encode(Anything(content=[1])) == b'{"content":[1]}'


class DropThing(Command, subject="thing.drop"):
    pass


class MakeBox(Command, subject="box.make"):
    content: Any = None


class BoxMade(Event, subject="box.made"):
    content: Any = None


codec = Codec("shop", commands=[MakeThing, DropThing, MakeBox], events=[ThingMade, BoxMade])

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PARTS = st.recursive(
    st.builds(Part, label=st.text(), weight=st.none() | FINITE),
    lambda inner: st.builds(
        Part, label=st.text(), weight=st.none() | FINITE, parts=st.lists(inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "name": st.text(),
    "size": st.integers(),
    "price": FINITE,
    "note": st.none() | st.text(),
    "tags": st.lists(st.text()),
    "part": st.none() | PARTS,
}
ODD = '\0\x1f\x7f\x85\u2028\ufeff\ufffe é́ 🦀\U0010ffff "\\/\b\f\n\r\t null NaN'


# Round trips


@given(st.builds(MakeThing, **FIELDS))
@settings(deadline=None)
def test_every_command_comes_back_from_its_bytes(command: MakeThing) -> None:
    assert codec.decode_command("thing", "make", codec.encode(command)) == command


@given(st.builds(ThingMade, **FIELDS))
@settings(deadline=None)
def test_every_event_comes_back_from_its_bytes(event: ThingMade) -> None:
    assert codec.decode_event("ThingMade", 2, codec.encode(event)) == [event]


def test_odd_text_comes_back() -> None:
    event = ThingMade(name=ODD, size=1, tags=[*ODD])

    assert codec.decode_event("ThingMade", 2, codec.encode(event)) == [event]


@pytest.mark.parametrize("size", [0, -1, 2**63, -(2**63) - 1, 2**64, 10**100])
def test_whole_numbers_are_exact(size: int) -> None:
    event = ThingMade(name="n", size=size)

    assert codec.decode_event("ThingMade", 2, codec.encode(event)) == [event]


def test_no_payload_counts_as_an_empty_object() -> None:
    assert codec.decode_command("thing", "drop", b"") == DropThing()
    with pytest.raises(InvalidPayload, match="`name`"):
        codec.decode_command("thing", "make", b"")


def test_an_event_ignores_fields_it_does_not_have() -> None:
    payload = b'{"name":"n","size":1,"later":[1,2]}'

    assert codec.decode_event("ThingMade", 2, payload) == [ThingMade(name="n", size=1)]


# What cannot be read

MALFORMED = [
    b"{",
    b"nonsense",
    b'{"name":"n","size":1}x',
    b'{"name":"n","size":1,}',
    b"\xff\xfe",
    b'{"name":"\xff","size":1}',
    b'{"name":"\xed\xa0\x80","size":1}',
    b'{"name":"\\ud800","size":1}',
    b'{"name":"\\udc00\\ud800","size":1}',
    b'{"name":"\n","size":1}',
    b'\xef\xbb\xbf{"name":"n","size":1}',
    b'{"name":"n","size":1,"price":NaN}',
    b'{"name":"n","size":1,"price":Infinity}',
    b'{"name":"n","size":1,"price":1e999}',
    b'{"name":"n","size":01}',
]
MISFITS = [
    (b"null", "Expected `object`, got `null`"),
    (b"[]", "Expected `object`, got `array`"),
    (b'"n"', "Expected `object`, got `str`"),
    (b'{"size":1}', "missing required field `name`"),
    (b'{"name":1,"size":1}', "$.name"),
    (b'{"name":null,"size":1}', "$.name"),
    (b'{"name":"n","size":"1"}', "$.size"),
    (b'{"name":"n","size":1.5}', "$.size"),
    (b'{"name":"n","size":true}', "$.size"),
    (b'{"name":"n","size":1,"tags":[1]}', "$.tags"),
    (b'{"name":"n","size":1,"part":{}}', "$.part"),
]


@pytest.mark.parametrize("payload", [*MALFORMED, *(payload for payload, _ in MISFITS)])
def test_what_is_not_json_or_does_not_fit_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidPayload, match="payload of MakeThing: "):
        codec.decode_command("thing", "make", payload)
    with pytest.raises(InvalidPayload, match="payload of ThingMade: "):
        codec.decode_event("ThingMade", 2, payload)


@pytest.mark.parametrize(("payload", "problem"), MISFITS)
def test_the_field_that_does_not_fit_is_named(payload: bytes, problem: str) -> None:
    with pytest.raises(InvalidPayload) as error:
        codec.decode_command("thing", "make", payload)
    assert problem in str(error.value)


def test_a_field_a_command_does_not_have_is_refused_by_name() -> None:
    with pytest.raises(InvalidPayload, match="`colour`"):
        codec.decode_command("thing", "make", b'{"name":"n","size":1,"colour":"red"}')


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 200_000,
        b'{"content":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"content":' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
        b'{"unknown":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
    ids=["open", "lists", "objects", "unknown"],
)
def test_deep_nesting_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidPayload, match="payload of MakeBox"):
        codec.decode_command("box", "make", payload)
    with pytest.raises(InvalidPayload, match="payload of BoxMade"):
        codec.decode_event("BoxMade", 1, payload)


@given(st.binary())
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    try:
        command = codec.decode_command("box", "make", payload)
    except InvalidPayload:
        return
    assert isinstance(command, MakeBox)


# What cannot be written


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["field", "optional", "list", "object", "tuple"])
def test_json_has_no_nan_and_no_infinity(number: float, place: str) -> None:
    event = {
        "field": ThingMade(name="n", size=1, price=number),
        "optional": ThingMade(name="n", size=1, part=Part("p", parts=[Part("q", number)])),
        "list": BoxMade(content=[1.0, [number]]),
        "object": BoxMade(content={"a": {"b": number}}),
        "tuple": BoxMade(content=(None, number)),
    }[place]

    with pytest.raises(InvalidPayload, match=f"payload of {type(event).__name__}"):
        codec.encode(event)


def test_a_text_with_half_a_pair_is_refused() -> None:
    with pytest.raises(InvalidPayload, match=r"payload of ThingMade: .*surrogates"):
        codec.encode(ThingMade(name="\ud800", size=1))


def test_what_could_not_be_read_again_is_refused_by_field() -> None:
    with pytest.raises(InvalidPayload, match=r"payload of ThingMade: .*\$\.size"):
        codec.encode(ThingMade(name="n", size="one"))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [object(), {1, object()}, lambda: None, {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused(content: object) -> None:
    with pytest.raises(InvalidPayload, match="payload of BoxMade"):
        codec.encode(BoxMade(content=content))


def test_too_deep_a_structure_is_refused() -> None:
    content: list[Any] = []
    for _ in range(100_000):
        content = [content]

    with pytest.raises(InvalidPayload, match="payload of BoxMade"):
        codec.encode(BoxMade(content=content))


def test_a_message_of_no_registered_type_is_not_written() -> None:
    class Stranger(Event, subject="thing.strange"):
        pass

    with pytest.raises(UnknownType, match="Stranger is not registered in shop"):
        codec.encode(Stranger())


# Which types there are


def test_types_are_listed_in_the_order_of_their_registration() -> None:
    assert codec.command_types == [MakeThing, DropThing, MakeBox]
    assert codec.event_types == [ThingMade, BoxMade]
    assert codec.command_type("thing", "drop") is DropThing


def test_an_unknown_action_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(UnknownType, match="thing has no command 'lift'; it has drop, make"):
        codec.command_type("thing", "lift")
    with pytest.raises(UnknownType, match="'lift'"):
        codec.decode_command("thing", "lift", b"{}")


def test_an_unknown_aggregate_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(UnknownType, match="unknown aggregate 'cat'; known are box, thing"):
        codec.command_type("cat", "make")
    with pytest.raises(UnknownType, match="unknown aggregate 'cat'"):
        codec.check_aggregate("cat")
    codec.check_aggregate("box")


def test_an_unknown_event_is_refused_by_name() -> None:
    with pytest.raises(UnknownType, match="'ThingLost' is not registered in shop"):
        codec.decode_event("ThingLost", 1, b"{}")


def test_an_event_type_is_registered_or_refused() -> None:
    def other() -> type[Event]:
        class ThingMade(Event, subject="thing.made"):
            pass

        return ThingMade

    codec.check_event_type(ThingMade)
    with pytest.raises(UnknownType, match="event type ThingMade is not registered in shop"):
        codec.check_event_type(other())


def test_a_schema_version_of_the_future_is_refused_with_advice() -> None:
    with pytest.raises(UnsupportedSchema) as refusal:
        codec.decode_event("ThingMade", 9, b'{"name":"n","size":1}')
    assert str(refusal.value) == (
        "ThingMade was written with schema version 9 by a newer program; "
        "this code reads up to 2: upgrade this program first"
    )


def test_a_schema_version_that_never_was_is_refused() -> None:
    with pytest.raises(UnsupportedSchema, match=r"schema version 1; .* no upcaster"):
        codec.decode_event("ThingMade", 1, b'{"name":"n","size":1}')


def test_two_commands_cannot_share_a_subject() -> None:
    class MakeAnother(Command, subject="thing.make"):
        pass

    with pytest.raises(DeciderError, match=r"MakeAnother and MakeThing share thing\.make"):
        Codec("shop", commands=[MakeThing, MakeAnother], events=[])


def test_two_events_cannot_share_a_name() -> None:
    def other() -> type[Event]:
        class BoxMade(Event, subject="thing.boxed"):
            pass

        return BoxMade

    with pytest.raises(DeciderError, match="two event types are named BoxMade"):
        Codec("shop", commands=[], events=[BoxMade, other()])


def test_registering_a_type_twice_is_registering_it_once() -> None:
    assert Codec("shop", [DropThing, DropThing], [BoxMade, BoxMade]).event_types == [BoxMade]


# Events as they stand in the log


def headers(**changes: Any) -> dict[str, str]:
    values: dict[str, Any] = {
        "identity": Identity(OWN, CORRELATION, CORRELATION),
        "type": "ThingMade",
        "domain": "shop",
        "timestamp": format_timestamp(TIME),
        "aggregate_id": "t1",
        "schema_version": 2,
        "version": 7,
    }
    return Envelope(**{**values, **changes}).to_headers()


PAYLOAD = b'{"name":"n","size":1}'


def test_a_recorded_event_has_all_metadata() -> None:
    stored = headers()
    (recorded,) = codec.recorded("shop.log.thing.t1", stored, PAYLOAD, 42)

    assert recorded.data == ThingMade(name="n", size=1)
    assert (recorded.aggregate, recorded.aggregate_id) == ("thing", "t1")
    assert (recorded.version, recorded.position) == (7, 42)
    assert (recorded.id, recorded.type) == (OWN, "ThingMade")
    assert (recorded.correlation_id, recorded.causation_id) == (CORRELATION, CORRELATION)
    assert recorded.time == TIME
    assert (recorded.headers, recorded.payload) == (stored, PAYLOAD)
    assert recorded.envelope == Envelope.from_headers(stored)


def test_a_recorded_event_must_be_complete() -> None:
    with pytest.raises(InvalidHeader, match="X-Aggregate-Version is missing"):
        codec.recorded("shop.log.thing.t1", headers(version=None), PAYLOAD, 1)
    with pytest.raises(InvalidHeader, match="X-Aggregate-ID is not t2, as the subject says"):
        codec.recorded("shop.log.thing.t2", headers(), PAYLOAD, 1)
    with pytest.raises(InvalidSubject, match=r"shop\.event\.thing\.made"):
        codec.recorded("shop.event.thing.made", headers(), PAYLOAD, 1)
    with pytest.raises(UnknownType, match="ThingLost"):
        codec.recorded("shop.log.thing.t1", headers(type="ThingLost"), PAYLOAD, 1)
    with pytest.raises(UnsupportedSchema, match="ThingMade"):
        codec.recorded("shop.log.thing.t1", headers(schema_version=1), PAYLOAD, 1)
    with pytest.raises(InvalidPayload, match="ThingMade"):
        codec.recorded("shop.log.thing.t1", headers(), b"", 1)
    with pytest.raises(InvalidHeader, match=Header.DOMAIN):
        codec.recorded("shop.log.thing.t1", {**headers(), Header.DOMAIN: ""}, PAYLOAD, 1)
