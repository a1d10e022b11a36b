"""Header lines read by one pattern are read as header by header, or not at all."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore.client.protocol import UnreadableHeaders, header_block, read_headers
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.envelope import Envelope, EventHeaders, Identity, format_timestamp, new_id
from eventstore.messages.event_lines import event_block, event_headers
from eventstore.messages.headers import Header
from tests.unit.messages.blocks import damaged

SUBJECT = "t.log.account.a1"

ids = st.uuids().map(str)
names = st.text("ab_09", max_size=9).map("a{}".format)
texts = st.text(max_size=9).map(lambda text: f"é{text}x".strip()).filter(str.isprintable)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """An envelope as the store makes it."""
    own = draw(ids)
    is_root = draw(st.booleans())
    return Envelope(
        identity=Identity(own, own, own) if is_root else Identity(own, draw(ids), draw(ids)),
        type=draw(names),
        domain=draw(names),
        timestamp=format_timestamp(draw(st.datetimes(timezones=st.just(UTC)))),
        aggregate_id=draw(names),
        schema_version=draw(st.integers(1, 999_999)),
        version=draw(st.integers(1, 10**18 - 1)),
        chain=draw(st.binary(min_size=32, max_size=32)).hex(),
        actor=draw(st.none() | texts),
        authenticated_as=draw(st.none() | texts),
        command_digest=draw(st.sampled_from([None, "none", "0" * 16, f"{'1' * 16}-{'2' * 32}"])),
        traceparent=draw(st.sampled_from([None, f"00-{'a' * 32}-{'b' * 16}-01"])),
    )


def stored(envelope: Envelope, added: dict[str, str]) -> bytes:
    """The block of an event in the order in which the store writes it."""
    headers = envelope.to_headers()
    last = {name: headers.pop(name) for name in (Header.AGGREGATE_VERSION, Header.CHAIN)}
    if (traceparent := headers.pop(Header.TRACEPARENT, None)) is not None:
        headers[Header.TRACEPARENT] = traceparent
    return header_block({**headers, **last, **added})


added = st.sampled_from(
    [
        {},
        {"Nats-Expected-Last-Subject-Sequence": "0"},
        {"Nats-Batch-Id": new_id(), "Nats-Batch-Sequence": "1"},
        {
            "Nats-Batch-Id": new_id(),
            "Nats-Batch-Sequence": "12",
            "Nats-Batch-Commit": "1",
            "Nats-Expected-Last-Subject-Sequence": "34",
        },
    ]
)
blocks = st.builds(stored, envelopes(), added)
USUAL = stored(
    Envelope(
        identity=Identity.root("11111111-1111-4111-8111-111111111111"),
        type="Deposited",
        domain="t",
        timestamp="2026-01-02T03:04:05.678901Z",
        aggregate_id="a1",
        version=7,
        chain="c" * 64,
        actor="somebody",
    ),
    {},
)


def read(block: bytes) -> EventHeaders | None:
    """The block by one pattern."""
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    found = event_block(r"\r\n").fullmatch(text)
    return None if found is None else event_headers(found.groups())


def assert_same(block: bytes, found: EventHeaders) -> None:
    """What the pattern has read is what is read header by header."""
    careful = read_headers(block)
    assert not isinstance(careful, UnreadableHeaders)
    assert found == careful
    assert (list(found), repr(found)) == (list(careful), repr(careful))
    assert found.envelope == Envelope.from_headers(careful)
    assert Envelope.from_headers(found) is found.envelope
    values = [chain_value(GENESIS, SUBJECT, each, b"{}") for each in (found, careful)]
    assert values[0] == values[1]


@given(blocks)
def test_what_the_store_writes_is_read_by_the_pattern(block: bytes) -> None:
    found = read(block)
    assert found is not None
    assert_same(block, found)


@given(damaged(USUAL) | st.binary())
@example(USUAL.replace(b"2026-01-02", b"2026-02-30"))
@example(USUAL.replace(b"Actor: ", b"Actor:  "))
@example(USUAL.replace(b"somebody", b"some\0body"))
@example(USUAL.replace(b"somebody", "some\x85body".encode()))
@example(USUAL[:-2])
def test_a_damaged_block_is_read_as_header_by_header_or_not_by_the_pattern(block: bytes) -> None:
    found = read(block)
    if found is not None:
        assert_same(block, found)


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"X-Event-ID", b"x-event-id"),
        (b"X-Domain: t\r\n", b"X-Domain: t\r\nX-Domain: t\r\n"),
        (b"X-Domain: t\r\n", b"X-Domain: t\r\nA: b\r\n"),
        (b"X-Domain: t\r\n", b"X-Domain:\r\n t\r\n"),
        (b"X-Domain: t\r\n", b""),
        (b"X-Causation-ID: 1", b"X-Causation-ID: 2"),
        (b"Nats-Msg-Id: 1", b"Nats-Msg-Id: 2"),
        (b"2026-01-02", b"2026-02-30"),
        (b"X-Aggregate-Version: 7", b"X-Aggregate-Version: 07"),
        (b"NATS/1.0", b"NATS/1.0 200"),
        (b"somebody", b"some\xffbody"),
        (b"somebody", b"some\0body"),
    ],
)
def test_the_pattern_reads_nothing_else(what: bytes, instead: bytes) -> None:
    assert read(USUAL) is not None
    assert what in USUAL
    assert read(USUAL.replace(what, instead)) is None


def test_headers_are_a_mapping() -> None:
    found = read(USUAL)
    assert found is not None
    assert (found[Header.ACTOR], found.get(Header.ACTOR)) == ("somebody", "somebody")
    assert dict(found.items()) == read_headers(USUAL)
    assert len(found) == len(found.items())
    for missing in (Header.TRACEPARENT, "x-actor"):
        assert missing not in found
        assert (found.get(missing), found.get(missing, "")) == (None, "")
        with pytest.raises(KeyError, match=missing):
            found[missing]


def test_copies_are_plain_dicts() -> None:
    found = read(USUAL)
    assert found is not None
    copies = [copy.copy(found), copy.deepcopy(found), pickle.loads(pickle.dumps(found))]  # noqa: S301
    copies += [found.copy(), {**found}, found | {}]
    assert [(type(each), each) for each in copies] == [(dict, found)] * len(copies)
