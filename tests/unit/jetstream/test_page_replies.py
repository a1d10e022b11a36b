"""The replies to a batched direct get: read when the page is complete, and refused as they come."""

from __future__ import annotations

import pytest

from eventstore.client.connection import Connection, Message
from eventstore.errors import InvalidAnswer, JetStreamError, NoResponders, RequestTimeout
from eventstore.jetstream.page_replies import PageReplies
from eventstore.messages.envelope import EventHeaders
from tests.unit.jetstream.test_stored_message import ANSWER, STREAM, SUBJECT

FOREIGN = (
    f"NATS/1.0\r\nA: b\r\nNats-Stream: {STREAM}\r\nNats-Subject: {SUBJECT}\r\nNats-Sequence: 15\r\n"
    "Nats-Time-Stamp: 2026-01-02T03:04:05Z\r\nNats-Num-Pending: 1\r\nNats-Last-Sequence: 12\r\n\r\n"
).encode()
"""Of a message that is not an event, after the one at sequence 12."""


def reply(block: bytes) -> Message:
    return Message(Connection(), b"_INBOX.1", b"", b"{}", block)


def event(sequence: int, before: int) -> Message:
    block = ANSWER.replace(b"Nats-Sequence: 12", b"Nats-Sequence: %d" % sequence)
    return reply(block.replace(b"Nats-Last-Sequence: 7", b"Nats-Last-Sequence: %d" % before))


def end(last: int, pending: int = 0) -> Message:
    text = f"NATS/1.0 204 EOB\r\nNats-Num-Pending: {pending}\r\nNats-Last-Sequence: {last}\r\n\r\n"
    return reply(text.encode())


def answered(*replies: Message, after: int = 0) -> PageReplies:
    """A page that has got these replies."""
    page = PageReplies(STREAM, SUBJECT, after)
    for each in replies:
        page.set_result(each)
    return page


async def test_a_page_has_events_and_foreign_messages_in_their_order() -> None:
    page = answered(event(12, 0), reply(FOREIGN), event(20, 15), end(20, pending=3))
    assert page.done()
    assert page.pending == 3
    messages = page.messages()
    assert [each.sequence for each in messages] == [12, 15, 20]
    assert [isinstance(each.headers, EventHeaders) for each in messages] == [True, False, True]
    assert messages[1].headers == {"A": "b"}


@pytest.mark.parametrize(
    "replies",
    [
        [event(20, 12), end(20)],
        [event(12, 0), event(20, 15), end(20)],
        [event(12, 0), end(15)],
        [reply(FOREIGN), end(15)],
        [end(3)],
    ],
)
async def test_a_lost_reply_is_noticed(replies: list[Message]) -> None:
    page = answered(*replies)
    assert page.done()
    with pytest.raises(RequestTimeout, match="lost"):
        page.messages()


async def test_a_message_that_was_not_requested_is_refused() -> None:
    with pytest.raises(InvalidAnswer, match="12 was answered after 12"):
        answered(event(12, 0), end(12), after=12).messages()
    other = reply(event(12, 0).block.replace(SUBJECT.encode(), b"t.log.account.b1"))
    with pytest.raises(InvalidAnswer, match="b1 answered"):
        answered(other, end(12)).messages()


@pytest.mark.parametrize(
    ("block", "error"),
    [
        (b"NATS/1.0 503\r\n\r\n", NoResponders),
        (b"NATS/1.0 408 Empty Request\r\n\r\n", JetStreamError),
        (b"NATS/1.0 204 EOB\r\n\r\n", InvalidAnswer),
        (b"NATS/1.0\r\nA: b\r\n\r\n", InvalidAnswer),
        (b"", InvalidAnswer),
        (FOREIGN.replace(b"Nats-Sequence: 15", b"Nats-Sequence: x"), InvalidAnswer),
    ],
)
async def test_what_is_no_part_of_a_page_fails_it_at_once(
    block: bytes, error: type[Exception]
) -> None:
    page = answered(event(12, 0), reply(block))
    assert page.done()
    with pytest.raises(error):
        await page.complete


async def test_a_page_without_messages_is_empty() -> None:
    page = answered(reply(b"NATS/1.0 404 Message Not Found\r\n\r\n"))
    assert (page.done(), page.messages(), page.pending) == (True, [], 0)
