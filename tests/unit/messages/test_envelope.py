from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from eventstore.client.protocol import header_lines
from eventstore.errors import InvalidHeader, InvalidId
from eventstore.messages.envelope import (
    Envelope,
    Identity,
    check_message_id,
    derive_id,
    format_timestamp,
    new_id,
    parse_timestamp,
)
from eventstore.messages.headers import Header

OWN = "00000000-0000-4000-8000-000000000001"
CORRELATION = "00000000-0000-4000-8000-000000000002"
CAUSE = "00000000-0000-4000-8000-000000000003"
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"

ENVELOPE = Envelope(
    identity=Identity(OWN, CORRELATION, CAUSE),
    type="FlakeCreated",
    domain="nix",
    timestamp="2026-01-01T00:00:00.000000Z",
    aggregate_id="f1",
    schema_version=2,
    version=3,
    chain="0f" * 32,
    actor="Ann Ö",
    traceparent=TRACE,
)
HEADERS = ENVELOPE.to_headers()

UUIDS = st.uuids().map(str)
IDENTITIES = st.one_of(
    UUIDS.map(Identity.root),
    st.lists(UUIDS, min_size=3, max_size=3, unique=True).map(lambda ids: Identity(*ids)),
    # What a root caused: the correlation is the cause.
    st.lists(UUIDS, min_size=2, max_size=2, unique=True).map(
        lambda ids: Identity(ids[0], ids[1], ids[1])
    ),
)
TIMES = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)
)
ACTORS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256).filter(
    lambda text: text == text.strip()
)
ENVELOPES = st.builds(
    Envelope,
    identity=IDENTITIES,
    type=st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,127}", fullmatch=True),
    domain=st.from_regex(r"[a-z][a-z0-9_-]{0,63}", fullmatch=True),
    timestamp=TIMES.map(format_timestamp),
    aggregate_id=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
    schema_version=st.integers(1, 999_999),
    version=st.none() | st.integers(1, 10**18 - 1),
    chain=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    actor=st.none() | ACTORS,
    traceparent=st.none()
    | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", fullmatch=True),
)


def over_the_wire(headers: dict[str, str]) -> dict[str, str]:
    """What arrives of headers that nats-py sends: it strips values and replaces line ends."""
    newlines = str.maketrans({"\r": " ", "\n": " "})
    block = b"".join(
        f"{name.strip()}: {value.strip().translate(newlines)}\r\n".encode()
        for name, value in headers.items()
    )
    arrived = {}
    for line in filter(None, block.split(b"\r\n")):
        name, _, value = line.partition(b":")
        arrived[name.strip().decode("ascii")] = value.strip().decode("utf-8", "replace")
    return arrived


# Headers


@given(ENVELOPES)
@settings(deadline=None, max_examples=100)
def test_every_envelope_survives_its_headers_and_the_wire(envelope: Envelope) -> None:
    headers = envelope.to_headers()

    assert over_the_wire(headers) == headers
    assert Envelope.from_headers(headers) == envelope
    assert Envelope.from_headers(over_the_wire(headers)) == envelope


@given(ENVELOPES, st.none() | ACTORS, st.sampled_from([None, "none", "0" * 16]))
@settings(deadline=None, max_examples=100)
def test_the_lines_of_an_event_are_those_of_its_headers(
    envelope: Envelope, sender: str | None, digest: str | None
) -> None:
    event = structs.replace(
        envelope,
        aggregate_id=envelope.aggregate_id or "a1",
        version=None,
        chain=None,
        authenticated_as=sender,
        command_digest=digest,
    )
    assert event.event_lines() == header_lines(event.to_headers())


def test_the_headers_of_an_envelope() -> None:
    assert HEADERS == {
        "X-Event-ID": OWN,
        "X-Event-Type": "FlakeCreated",
        "X-Correlation-ID": CORRELATION,
        "X-Causation-ID": CAUSE,
        "X-Aggregate-ID": "f1",
        "X-Timestamp": "2026-01-01T00:00:00.000000Z",
        "X-Domain": "nix",
        "Nats-Msg-Id": OWN,
        "X-Aggregate-Version": "3",
        "X-Schema-Version": "2",
        "X-Chain": "0f" * 32,
        "X-Actor": "Ann Ö",
        "traceparent": TRACE,
        "Content-Type": "application/json",
    }


def test_what_an_envelope_does_not_have_is_no_header() -> None:
    bare = Envelope(
        identity=Identity.root(OWN), type="T", domain="nix", timestamp=ENVELOPE.timestamp
    )

    assert set(HEADERS) - set(bare.to_headers()) == {
        "X-Aggregate-ID",
        "X-Aggregate-Version",
        "X-Chain",
        "X-Actor",
        "traceparent",
    }


@pytest.mark.parametrize(
    "name",
    [
        Header.EVENT_ID,
        Header.EVENT_TYPE,
        Header.CORRELATION_ID,
        Header.CAUSATION_ID,
        Header.TIMESTAMP,
        Header.DOMAIN,
    ],
)
def test_a_missing_header_is_named(name: str) -> None:
    with pytest.raises(InvalidHeader, match=f"{name} is missing") as error:
        Envelope.from_headers({key: value for key, value in HEADERS.items() if key != name})
    assert error.value.header == name


def test_without_the_other_headers_there_are_defaults() -> None:
    bare = {
        name: HEADERS[name]
        for name in (
            "X-Event-ID",
            "X-Event-Type",
            "X-Correlation-ID",
            "X-Causation-ID",
            "X-Timestamp",
            "X-Domain",
        )
    }

    assert Envelope.from_headers(bare) == Envelope(
        identity=ENVELOPE.identity, type="FlakeCreated", domain="nix", timestamp=ENVELOPE.timestamp
    )


def test_foreign_headers_are_ignored() -> None:
    assert Envelope.from_headers({**HEADERS, "Nats-Sequence": "7", "Other": ""}) == ENVELOPE


BAD_UUIDS = ["", "x", OWN.upper().replace("0", "A"), OWN.replace("-", ""), f"{{{OWN}}}", OWN + "\n"]
BAD: dict[str, list[str]] = {
    Header.EVENT_ID: BAD_UUIDS,
    Header.CORRELATION_ID: BAD_UUIDS,
    Header.CAUSATION_ID: BAD_UUIDS,
    Header.EVENT_TYPE: ["", "1A", "A B", "A.B", "Ä", "A" * 129, "A\n"],
    Header.DOMAIN: ["", "Nix", "n.x", "*", "a" * 65],
    Header.AGGREGATE_ID: ["", "f.1", "f 1", "ü", "f\n", "f" * 129],
    Header.AGGREGATE_VERSION: ["", "0", "-1", "01", "1.0", " 1", "٣", "1_0", "1" * 19],
    Header.SCHEMA_VERSION: ["", "0", "-1", "1000000", "v1"],
    Header.CHAIN: ["", "0f", "0F" * 32, "g" * 64, "0" * 65],
    Header.ACTOR: ["", " ", " a", "a ", "a\nb", "a\r\nX-Domain: b", "\0", "a" * 257, "a\x85",
                   "\ud800", "a\udfffb", "\xa0a", "a\u3000"],
    Header.TRACEPARENT: ["", "00-a-b-01", TRACE.upper(), TRACE + "0"],
    Header.CONTENT_TYPE: ["", "text/plain", "application/json; charset=utf-8"],
    Header.TIMESTAMP: ["", "now", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z",
                       "2026-01-01T00:00:61Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00",
                       "2026-01-01T00:00:00+24:00", "٢٠٢٦-01-01T00:00:00Z", "1767225600"],
    Header.MESSAGE_ID: ["", CORRELATION, "x"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_an_illegal_value_is_refused_and_its_header_named(name: str, value: str) -> None:
    with pytest.raises(InvalidHeader) as error:
        Envelope.from_headers({**HEADERS, name: value})
    assert error.value.header == name
    assert repr(value)[:40] in str(error.value)


FIELDS = {
    Header.EVENT_TYPE: "type",
    Header.DOMAIN: "domain",
    Header.AGGREGATE_ID: "aggregate_id",
    Header.CHAIN: "chain",
    Header.ACTOR: "actor",
    Header.TRACEPARENT: "traceparent",
    Header.TIMESTAMP: "timestamp",
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name in FIELDS for value in BAD[name]]
)
def test_an_illegal_value_is_not_sent(name: str, value: str) -> None:
    envelope = structs.replace(ENVELOPE, **{FIELDS[name]: value})

    with pytest.raises(InvalidHeader) as error:
        envelope.to_headers()
    assert error.value.header == name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"version": 0}, Header.AGGREGATE_VERSION),
        ({"version": 10**18}, Header.AGGREGATE_VERSION),
        ({"schema_version": 0}, Header.SCHEMA_VERSION),
        ({"identity": Identity("x", CORRELATION, CAUSE)}, Header.EVENT_ID),
        ({"identity": Identity(OWN, "x", CAUSE)}, Header.CORRELATION_ID),
        ({"identity": Identity(OWN, CORRELATION, "x")}, Header.CAUSATION_ID),
    ],
)
def test_an_illegal_number_or_id_is_not_sent(changes: dict[str, object], name: str) -> None:
    with pytest.raises(InvalidHeader) as error:
        structs.replace(ENVELOPE, **changes).to_headers()
    assert error.value.header == name


@given(name=st.sampled_from(sorted(BAD)), value=st.text())
@settings(deadline=None, max_examples=100)
def test_any_text_is_refused_or_preserved(name: str, value: str) -> None:
    headers = {**HEADERS, name: value}
    try:
        envelope = Envelope.from_headers(headers)
    except InvalidHeader as error:
        found = error.header
    else:
        found = name
        assert over_the_wire(headers) == envelope.to_headers() == headers
    assert found == name


def test_a_huge_value_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidHeader) as error:
        Envelope.from_headers({**HEADERS, Header.ACTOR: "a" * 1_000_000})
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("own", "correlation", "cause"),
    [(OWN, OWN, CAUSE), (OWN, CORRELATION, OWN)],
    ids=["correlation", "cause"],
)
def test_a_roots_three_ids_are_equal_and_no_others(own: str, correlation: str, cause: str) -> None:
    with pytest.raises(InvalidHeader, match="a root's three ids are equal") as error:
        Envelope(
            identity=Identity(own, correlation, cause),
            type="T",
            domain="nix",
            timestamp=ENVELOPE.timestamp,
        ).to_headers()
    assert error.value.header == Header.CAUSATION_ID


# Identity


def test_a_root_begins_its_own_correlation() -> None:
    assert Identity.root(OWN) == Identity(OWN, OWN, OWN)
    assert len({Identity.root().id for _ in range(100)}) == 100


def test_what_a_message_causes_has_its_correlation() -> None:
    root = Identity.root(CORRELATION)
    child = Identity.caused_by(root, CAUSE)
    grandchild = Identity.caused_by(child)

    assert child == Identity(CAUSE, CORRELATION, CORRELATION)
    assert (grandchild.correlation_id, grandchild.causation_id) == (CORRELATION, CAUSE)
    assert grandchild.id not in {CORRELATION, CAUSE}


def test_a_message_cannot_have_caused_itself() -> None:
    child = Identity(OWN, CORRELATION, CAUSE)

    with pytest.raises(InvalidId, match=f"message {OWN} cannot have caused itself"):
        Identity.caused_by(child, OWN)
    with pytest.raises(InvalidId, match=f"message {CORRELATION} cannot have caused itself"):
        Identity.caused_by(child, CORRELATION)


@given(IDENTITIES, UUIDS)
def test_whatever_is_caused_can_be_sent(parent: Identity, message_id: str) -> None:
    try:
        identity = Identity.caused_by(parent, message_id)
    except InvalidId:
        return
    headers = structs.replace(ENVELOPE, identity=identity).to_headers()
    assert Envelope.from_headers(headers).identity == identity


@pytest.mark.parametrize("value", BAD_UUIDS)
def test_ids_are_canonical_uuids(value: str) -> None:
    for make in (check_message_id, Identity.root):
        with pytest.raises(InvalidId):
            make(value)
    with pytest.raises(InvalidId):
        Identity.caused_by(Identity.root(OWN), value)


@given(UUIDS)
def test_a_uuid_is_returned(value: str) -> None:
    assert check_message_id(value) == value


def test_new_ids_are_legal_and_new() -> None:
    assert check_message_id(new_id()) != new_id()


def test_a_new_id_is_a_random_uuid() -> None:
    ids = [uuid.UUID(new_id()) for _ in range(100)]
    assert {(each.version, each.variant) for each in ids} == {(4, uuid.RFC_4122)}
    assert len(set(ids)) == 100


@given(UUIDS, st.text(), st.text())
def test_a_derived_id_follows_from_parent_and_name(parent: str, name: str, other: str) -> None:
    derived = check_message_id(derive_id(parent, name))

    assert derived == derive_id(parent, name) == str(uuid.uuid5(uuid.UUID(parent), name))
    assert (derive_id(parent, other) == derived) == (name == other)


def test_a_derived_id_never_changes() -> None:
    assert derive_id(OWN, "flake.f1.0") == "fab1201c-3964-5577-b1ea-0577a64bb4b2"


# Times


@given(TIMES)
def test_a_time_survives_its_text(time: datetime) -> None:
    text = format_timestamp(time)

    assert parse_timestamp(text) == time
    assert len(text) == len("2026-01-01T00:00:00.000000Z")


@given(TIMES, st.integers(-23 * 60, 23 * 60))
def test_times_are_written_in_utc(time: datetime, minutes: int) -> None:
    local = time.astimezone(timezone(timedelta(minutes=minutes)))

    assert format_timestamp(local) == format_timestamp(time)
    assert parse_timestamp(local.isoformat()) == time


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("2026-01-01T01:00:00Z", "2026-01-01T01:00:00.000000Z"),
        ("2026-01-01t01:00:00.5z", "2026-01-01T01:00:00.500000Z"),
        ("2026-01-01T01:00:00.123456789Z", "2026-01-01T01:00:00.123456Z"),
        ("2026-01-01T01:00:00+02:30", "2025-12-31T22:30:00.000000Z"),
        ("2026-01-01T01:00:00-00:00", "2026-01-01T01:00:00.000000Z"),
    ],
)
def test_any_rfc_3339_time_is_read_and_normalised(text: str, canonical: str) -> None:
    assert format_timestamp(parse_timestamp(text)) == canonical
    assert Envelope.from_headers({**HEADERS, Header.TIMESTAMP: text}).timestamp == canonical


def test_a_time_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        format_timestamp(datetime(2026, 1, 1))  # noqa: DTZ001, RUF100  # that is the point
