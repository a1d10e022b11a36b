"""Personal data: which fields may be marked, and how they are encrypted and decrypted."""

from __future__ import annotations

import base64
import sys
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.errors import (
    ConfigurationError,
    DeciderError,
    InvalidHeader,
    InvalidPayload,
    KeyMissing,
    SubjectForgotten,
)
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import (
    PERSONAL,
    DataKey,
    DestroyedKey,
    Keys,
    refs_in,
    seal,
    subjects_in,
)
from eventstore.messages.envelope import Envelope, Identity, new_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.personal import FORGOTTEN, Personal, personal_fields, ref_of
from eventstore.messages.types import Command, Event

TIME = "2026-01-01T00:00:00.000000Z"


class Mind(msgspec.Struct, frozen=True):
    thoughts: list[str] = []
    depth: float | None = None


class Introduced(Event, subject="talk.introduced", rename="camel"):
    who: str
    about_whom: str
    first_name: Annotated[str, Personal(subject="who")]
    shy: Annotated[str | None, Personal(subject="about_whom")] = None
    mind: Annotated[Mind, Personal(subject="who", forgotten=Mind())] = Mind()
    size: Annotated[int, Personal(forgotten=0)] = 0
    plain: Any = None


class Said(Event, subject="talk.said"):
    words: str


codec = Codec("home", [], [Introduced, Said])
KEYS: Keys = {ref_of(name): DataKey(name.encode().ljust(32)) for name in ("ann", "ben", "t1")}
GONE = DestroyedKey(TIME)


def headers_of(event: Event, own: str = "") -> dict[str, str]:
    own = own or new_id()
    envelope = Envelope(
        identity=Identity(own, own, own),
        type=type(event).__name__,
        domain="home",
        timestamp=TIME,
        aggregate_id="t1",
        version=1,
    )
    return envelope.to_headers()


def sealed(event: Event, keys: Keys = KEYS, **options: Any) -> tuple[bytes, dict[str, str]]:
    fields = codec.personal_fields(type(event))
    return seal(event, codec.encode(event), headers_of(event), fields, keys, **options)


def opened(payload: bytes, headers: dict[str, str], keys: Keys = KEYS) -> RecordedEvent:
    (recorded,) = codec.recorded("home.log.talk.t1", headers, payload, 1, keys)
    return recorded


# Round trips

MINDS = st.builds(
    Mind,
    thoughts=st.lists(st.text(), max_size=3),
    depth=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
TALES = st.builds(
    Introduced,
    who=st.sampled_from(["ann", "ben"]),
    about_whom=st.sampled_from(["ann", "ben"]),
    first_name=st.text(),
    shy=st.none() | st.text(),
    mind=MINDS,
    size=st.integers(),
    plain=st.none() | st.text() | st.dictionaries(st.text(), st.text(), max_size=2),
)


@given(event=TALES)
@settings(deadline=None)
def test_every_event_comes_back_and_the_rest_of_it_is_stored_as_it_is(event: Introduced) -> None:
    payload, headers = sealed(event)
    assert opened(payload, headers).data == event
    data, clear = msgspec.json.decode(payload), msgspec.json.decode(codec.encode(event))
    assert list(data) == list(clear)
    for name in ("who", "aboutWhom", "plain"):
        assert data[name] == clear[name]
    assert (opened(payload, headers).payload, opened(payload, headers).headers) == (
        payload,
        headers,
    )


@given(event=TALES, gone=st.sets(st.sampled_from(["ann", "ben", "t1"])))
@settings(deadline=None)
def test_exactly_what_is_about_the_forgotten_is_forgotten(
    event: Introduced, gone: set[str]
) -> None:
    payload, headers = sealed(event)
    keys = {**KEYS, **dict.fromkeys(map(ref_of, gone), GONE)}
    expected = msgspec.structs.replace(
        event,
        first_name=FORGOTTEN if event.who in gone else event.first_name,
        mind=Mind() if event.who in gone else event.mind,
        shy=None if event.about_whom in gone else event.shy,
        size=0 if "t1" in gone else event.size,
    )
    assert opened(payload, headers, keys).data == expected


def test_two_alike_are_sealed_differently() -> None:
    event = Introduced(who="ann", about_whom="ben", first_name="Ann")
    assert sealed(event)[0] != sealed(event)[0]


def test_the_keys_it_takes_are_named() -> None:
    event = Introduced(who="ann", about_whom="ben", first_name="Ann", shy="x")
    _, headers = sealed(event)
    assert refs_in(headers) == {ref_of("ann"), ref_of("ben")}
    assert headers[PERSONAL] == f"firstName={ref_of('ann')} shy={ref_of('ben')}"
    assert subjects_in(event, codec.personal_fields(Introduced), "t1") == {"ann", "ben"}


def test_what_has_nothing_personal_to_say_is_stored_as_it_is() -> None:
    event = Introduced(who="ann", about_whom="ben", first_name=FORGOTTEN)
    payload, headers = sealed(event, keys={})
    assert payload == codec.encode(event)
    assert PERSONAL not in headers
    assert opened(payload, headers, {}).data == event


@pytest.mark.parametrize("subject", ["ann", "a.b c", "ä@x", "x" * 10_000])
def test_any_text_is_filed_as_one_token(subject: str) -> None:
    assert len(ref_of(subject)) == 32
    assert ref_of(subject).isalnum()


def test_text_that_no_bytes_hold_is_no_subject() -> None:
    with pytest.raises(InvalidPayload, match="surrogates"):
        ref_of("\ud800")


# Who is forgotten


def test_nothing_is_sealed_about_the_forgotten() -> None:
    event = Introduced(who="ann", about_whom="ben", first_name="Ann", shy="x")
    keys = {**KEYS, ref_of("ben"): GONE}
    with pytest.raises(
        SubjectForgotten, match=r"ben was forgotten at 2026-.*: Introduced\.shy would"
    ):
        sealed(event, keys)
    payload, headers = sealed(event, keys, forgotten="replace")
    assert opened(payload, headers).data == msgspec.structs.replace(event, shy=None)


def test_a_key_that_is_not_there_is_no_forgotten_one() -> None:
    payload, headers = sealed(Introduced(who="ann", about_whom="ben", first_name="Ann"))
    with pytest.raises(KeyMissing, match="personal data in firstName cannot be decrypted: key"):
        opened(payload, headers, {})


def test_another_key_opens_nothing() -> None:
    payload, headers = sealed(Introduced(who="ann", about_whom="ben", first_name="Ann"))
    with pytest.raises(InvalidPayload, match="cannot be decrypted with their key"):
        opened(payload, headers, {ref_of("ann"): DataKey(bytes(32))})


@given(place=st.integers(min_value=0), event=TALES)
@settings(deadline=None)
def test_any_changed_byte_of_what_is_sealed_is_found(place: int, event: Introduced) -> None:
    event = msgspec.structs.replace(event, first_name="Ann of the Elms")
    payload, headers = sealed(event)
    data = msgspec.json.decode(payload)
    holder = msgspec.json.decode(msgspec.json.encode(data["firstName"]["$personal"]))
    for name in ("data", "nonce"):
        raw = bytearray(base64.b64decode(holder[name]))
        raw[place % len(raw)] ^= 1
        data["firstName"]["$personal"] = {**holder, name: base64.b64encode(raw).decode()}
        with pytest.raises(InvalidPayload):
            opened(msgspec.json.encode(data), headers)


@pytest.mark.parametrize("payload", [b"[]", b"{", b"\xff", b"[" * 200_000])
def test_what_is_no_object_is_refused(payload: bytes) -> None:
    _, headers = sealed(Introduced(who="ann", about_whom="ben", first_name="Ann"))
    with pytest.raises(InvalidPayload, match="payload of Introduced"):
        opened(payload, headers)


@pytest.mark.parametrize("text", ["lost=00", "=", "firstName", "plain=00"])
def test_a_header_that_does_not_fit_is_refused(text: str) -> None:
    payload, headers = sealed(Introduced(who="ann", about_whom="ben", first_name="Ann", plain=1))
    with pytest.raises((InvalidHeader, InvalidPayload)):
        opened(payload, {**headers, PERSONAL: text})


# What may be marked


def test_forms_are_of_the_fields_type() -> None:
    forms = {field.name: field.forgotten for field in personal_fields(Introduced)}
    assert forms == {"first_name": FORGOTTEN, "shy": None, "mind": Mind(), "size": 0}


def test_a_form_differs_from_a_value_that_only_equals_it() -> None:
    (size,) = [field for field in personal_fields(Introduced) if field.name == "size"]
    introduced = Introduced(who="ann", about_whom="ben", first_name="Ann", size=False)
    assert not size.is_forgotten(introduced)


class Inner(msgspec.Struct):
    name: Annotated[str, Personal()]


def made(annotations: dict[str, Any], **options: Any) -> Any:
    meta: Any = type(Event)
    namespace = {"__annotations__": annotations, "__module__": __name__}
    return meta("Marked", (Event,), namespace, subject="talk.marked", **options)


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({"name": Annotated[str, Personal("who")]}, "must name a field of Marked that is a str"),
        ({"who": int, "name": Annotated[str, Personal("who")]}, "must name a field of Marked"),
        ({"who": str | None, "name": Annotated[str, Personal("who")]}, "must name a field"),
        ({"name": Annotated[str, Personal("name")]}, "not personal itself"),
        ({"size": Annotated[int, Personal()]}, "declare its value once forgotten"),
        ({"size": Annotated[int, Personal(forgotten="x")]}, "'x' does not fit the field"),
        (
            {"code": Annotated[str, msgspec.Meta(max_length=3), Personal()]},
            "'[forgotten]' does not fit the field",
        ),
        ({"names": list[Annotated[str, Personal()]]}, "Personal marks a field of an event"),
        ({"name": Annotated[str, Personal()] | None}, "Personal marks a field of an event"),
        ({"inner": Inner}, "Personal marks a field of an event"),
        ({"inner": list[dict[str, Inner]]}, "Personal marks a field of an event"),
        ({"inner": Annotated[Inner, Personal(forgotten=0)]}, "Personal marks a field of an event"),
        ({"größe": Annotated[str, Personal()]}, "must be ASCII"),
    ],
)
def test_a_mark_that_cannot_work_is_refused_when_it_is_made(
    annotations: dict[str, Any], problem: str
) -> None:
    with pytest.raises(DeciderError) as refusal:
        made(annotations)
    assert "Marked." in str(refusal.value)
    assert problem in str(refusal.value)


def test_an_array_holds_nothing_personal() -> None:
    with pytest.raises(DeciderError, match="a payload that is an array cannot hold"):
        made({"name": Annotated[str, Personal()]}, array_like=True)


class Later(Event, subject="talk.later"):
    inner: NotYet


class NotYet(msgspec.Struct):
    name: Annotated[str, Personal()]


def test_what_is_defined_below_its_event_is_looked_at_when_it_is_registered() -> None:
    with pytest.raises(DeciderError, match=r"Later\.inner: Personal marks a field of an event"):
        Codec("home", [], [Later])


def test_a_command_cannot_be_marked() -> None:
    class Tell(Command, subject="talk.tell"):
        name: Annotated[str, Personal()]

    with pytest.raises(DeciderError, match=r"Tell\.name: only events are encrypted"):
        Codec("home", [Tell], [])


# The library that encrypts


def test_without_the_library_only_domains_with_personal_data_do_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    assert Codec("home", [], [Said]).event_types == [Said]
    with pytest.raises(ConfigurationError, match=r"install jetstream-eventstore\[crypto\]"):
        Codec("home", [], [Introduced])


def test_it_is_known_which_aggregates_have_personal_data() -> None:
    assert codec.has_personal()
    assert codec.has_personal("talk")
    assert not codec.has_personal("order")
    assert not Codec("home", [], [Said]).has_personal()
