"""A command's header lines read by one pattern are read as header by header, or not at all."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore.client.protocol import UnreadableHeaders, header_lines, read_headers
from eventstore.messages.command_lines import read_command_lines
from eventstore.messages.envelope import Envelope, EventHeaders, Identity, format_timestamp
from tests.unit.messages.blocks import damaged

OWN = "11111111-1111-4111-8111-111111111111"

ids = st.uuids().map(str)
names = st.text("ab_09", max_size=9).map("a{}".format)
texts = st.text(max_size=9).map(lambda text: f"é{text}x".strip()).filter(str.isprintable)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    """An envelope as the client makes it."""
    own = draw(ids)
    is_root = draw(st.booleans())
    return Envelope(
        identity=Identity(own, own, own) if is_root else Identity(own, draw(ids), draw(ids)),
        type=draw(names),
        domain=draw(names),
        timestamp=format_timestamp(draw(st.datetimes(timezones=st.just(UTC)))),
        aggregate_id=draw(names),
        schema_version=draw(st.integers(1, 999_999)),
        actor=draw(st.none() | texts),
        traceparent=draw(st.sampled_from([None, f"00-{'a' * 32}-{'b' * 16}-01"])),
    )


def sent(envelope: Envelope, extra: dict[str, str]) -> bytes:
    """The block of a command in the order in which the client writes it."""
    return f"NATS/1.0\r\n{envelope.event_lines()}{header_lines(extra)}\r\n".encode()


extras = st.sampled_from(
    [
        {},
        {"X-Reply-To": "_INBOX.a.s.b"},
        {"X-Reply-To": "_INBOX.a.s.b", "X-Expected-Version": "0", "X-ID-Derived": "1"},
        {"X-Expected-Version": "17"},
        {"X-ID-Derived": "1", "X-Process": "billing"},
    ]
)
USUAL = sent(
    Envelope(
        identity=Identity.root(OWN),
        type="Deposit",
        domain="t",
        timestamp="2026-01-02T03:04:05.678901Z",
        aggregate_id="a1",
        actor="somebody",
    ),
    {"X-Reply-To": "_INBOX.a.s.b"},
)


def assert_same(block: bytes, found: EventHeaders) -> None:
    """What the pattern has read is what is read header by header."""
    careful = read_headers(block)
    assert not isinstance(careful, UnreadableHeaders)
    assert found == careful
    assert list(found) == list(careful)
    assert found.envelope == Envelope.from_headers(careful)


@given(st.builds(sent, envelopes(), extras))
def test_what_the_client_writes_is_read_by_the_pattern(block: bytes) -> None:
    found = read_command_lines(block)
    assert found is not None
    assert_same(block, found)


@given(damaged(USUAL) | st.binary())
@example(USUAL.replace(b"2026-01-02", b"2026-02-30"))
@example(USUAL.replace(b"Actor: ", b"Actor:  "))
@example(USUAL.replace(b"somebody", "some\x85body".encode()))
@example(USUAL.replace(b"s.b", b"s .b"))
@example(USUAL[:-2])
def test_a_damaged_block_is_read_as_header_by_header_or_not_by_the_pattern(block: bytes) -> None:
    found = read_command_lines(block)
    if found is not None:
        assert_same(block, found)


@pytest.mark.parametrize(
    "line",
    ["X-Authenticated-As: admin", "X-Command-Digest: none", "Nats-Request-Info: {}", "X-Other: 1"],
)
def test_what_only_a_worker_or_the_server_sets_is_not_read_by_the_pattern(line: str) -> None:
    assert read_command_lines(USUAL[:-2] + f"{line}\r\n\r\n".encode()) is None
