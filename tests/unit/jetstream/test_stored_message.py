"""Events in the replies to a batched direct get: by one pattern as header by header, or not."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eventstore.client.api_answers import decimal
from eventstore.client.client import Msg
from eventstore.client.connection import Connection, Message
from eventstore.client.protocol import read_headers
from eventstore.errors import ClientError
from eventstore.jetstream.stored_message import (
    StoredMessage,
    delivered,
    event_in,
    read_direct,
    status_of,
    stored_in,
)
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import EventHeaders
from tests.unit.messages.blocks import damaged
from tests.unit.messages.test_event_lines import USUAL

STREAM = "T_LOG"
SUBJECT = "t.log.account.a1"
ADDED = (
    f"Nats-Stream: {STREAM}\r\nNats-Subject: {SUBJECT}\r\nNats-Sequence: 12\r\n"
    "Nats-Time-Stamp: 2026-01-02T03:04:05.678901234Z\r\nNats-Num-Pending: 3\r\n"
    "Nats-Last-Sequence: 7\r\n\r\n"
).encode()
ANSWER = USUAL[:-2] + ADDED
ALONE = ADDED[: ADDED.index(b"Nats-Num-Pending")] + b"\r\n"
"""What the server adds to the answer to a direct get of one message."""


def answered(block: bytes) -> Message:
    """A message as it arrives in an inbox."""
    return Message(Connection(), b"_INBOX.1", b"", b"{}", block)


def carefully(block: bytes) -> tuple[StoredMessage, int | None]:
    """What is read header by header."""
    headers = read_headers(block)
    assert status_of(headers) is None
    before = decimal(headers.get(NatsHeader.LAST_SEQUENCE, "0"))
    added = (NatsHeader.NUM_PENDING, NatsHeader.LAST_SEQUENCE)
    return stored_in(headers, b"{}", STREAM, added), before


async def test_an_event_in_a_page_is_read_by_the_pattern() -> None:
    found = event_in(answered(ANSWER), STREAM)
    assert found is not None
    assert found == carefully(ANSWER)
    assert isinstance(found[0].headers, EventHeaders)
    assert event_in(answered(ANSWER), "OTHER") is None


async def test_an_event_that_a_consumer_delivers_is_read_by_the_pattern() -> None:
    message = delivered(answered(USUAL), 12)
    assert isinstance(message.headers, EventHeaders)
    assert message.headers == read_headers(USUAL)
    other = delivered(answered(USUAL[:-2]), 12)
    assert not isinstance(other.headers, EventHeaders)
    assert other.headers == read_headers(USUAL[:-2])


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (b"Nats-Sequence: 12", b"Nats-Sequence: 0"),
        (b"Nats-Sequence: 12\r\n", b""),
        (b"Nats-Last-Sequence: 7\r\n", b""),
        (b"\r\nNats-Stream: ", b"Nats-Stream: "),
        (b"Nats-Stream: ", b"A: b\r\nNats-Stream: "),
        (b"Nats-Subject: ", b"Nats-Subject: forged\r\nNats-Subject: "),
        (b"Nats-Time-Stamp: ", b"nats-time-stamp: "),
        (b"Nats-Subject: ", b"Nats-Subject:\r\n "),
        (b"X-Domain", f"Nats-Stream: {STREAM}\r\nNats-Subject: {SUBJECT}\r\nX-Domain".encode()),
        (b"NATS/1.0\r\n", b"NATS/1.0 204 EOB\r\n"),
    ],
)
async def test_anything_else_in_a_page_is_not_read_by_the_pattern(
    what: bytes, instead: bytes
) -> None:
    assert ANSWER.count(what) == 1
    assert event_in(answered(ANSWER.replace(what, instead)), STREAM) is None


@st.composite
def answers(draw: st.DrawFn, added: bytes = ADDED) -> bytes:
    """A reply with damage in the stored block, in what the server adds, or a forged end."""
    stored = damaged(USUAL).map(lambda stored: stored[:-2] + added)
    block = draw(st.just(USUAL[:-2] + added) | stored)
    at, length = draw(st.integers(0, len(block))), draw(st.integers(0, 4))
    piece = draw(st.sampled_from([b"", b"\r\n", b" ", b"0", b"\0", b"\xff", b": ", added]))
    return block[:at] + piece + block[at + length :]


@given(answers())
@example(ANSWER)
@example(USUAL[:-2] + ADDED[:-2] + ADDED)
@example(USUAL[:-4] + ADDED)
def test_a_damaged_reply_is_read_as_header_by_header_or_not_by_the_pattern(block: bytes) -> None:
    found = event_in(answered(block), STREAM)
    if found is not None:
        assert found == carefully(block)


async def test_an_event_alone_is_read_by_the_pattern() -> None:
    found = read_direct(answered(USUAL[:-2] + ALONE), STREAM, SUBJECT)
    assert found is not None
    assert isinstance(found.headers, EventHeaders)
    assert found == stored_in(read_headers(USUAL[:-2] + ALONE), b"{}", STREAM)


@given(answers(ALONE))
@example(USUAL[:-2] + ALONE[:-2] + ALONE)
@example(USUAL[:-4] + ALONE)
def test_a_damaged_answer_is_read_as_header_by_header(block: bytes) -> None:
    plain = Msg(Connection(), data=b"{}", headers=read_headers(block))
    assert _result(answered(block)) == _result(plain)


def _result(answer: Msg) -> object:
    try:
        return read_direct(answer, STREAM)
    except ClientError as error:
        return str(error)
