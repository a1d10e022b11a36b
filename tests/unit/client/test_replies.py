"""Answers to several requests that are awaited together."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventstore.client.replies import PendingReplies
from eventstore.errors import ConnectionLost, PermissionDenied, RequestTimeout
from tests.unit.concurrency.clock import Clock, settle


class Together:
    """Three requests under way."""

    def __init__(self, timeout: float = 5.0) -> None:
        self.replies = PendingReplies()
        self.token = ""
        self.waiting = asyncio.create_task(
            self.replies.awaited_together(["a", "b.B", "c"], timeout, self._send)
        )

    def _send(self, token: str) -> None:
        self.token = token

    def answer(self, index: int | str, answer: object) -> None:
        self.replies.deliver(f"{self.token}{index}", answer)


async def test_each_request_gets_its_first_answer_whatever_their_order() -> None:
    three = Together()
    await settle()
    for index, answer in ((2, "two"), (0, "zero"), (2, "again"), (1, "one")):
        assert not three.waiting.done()
        three.answer(index, answer)
    assert await three.waiting == ["zero", "one", "two"]
    assert len(three.replies) == 0


async def test_what_answers_no_request_is_dropped() -> None:
    three = Together()
    await settle()
    for index in (3, -1, "", "x", "1.0", "²"):
        three.answer(index, "stray")
    three.replies.deliver("another", "stray")
    for index in range(3):
        three.answer(index, index)
    assert await three.waiting == [0, 1, 2]
    three.answer(0, "late")


async def test_a_broken_connection_fails_those_that_have_no_answer() -> None:
    three = Together()
    await settle()
    three.answer(1, "one")
    three.replies.fail_all("the connection broke")
    zero, one, two = await three.waiting
    assert one == "one"
    assert isinstance(zero, ConnectionLost)
    assert str(two) == "c: the connection broke"


async def test_a_denied_subject_fails_its_own_requests_only() -> None:
    three = Together()
    await settle()
    three.replies.deny("b.b")
    three.answer(0, "zero")
    three.answer(2, "two")
    zero, one, two = await three.waiting
    assert (zero, two) == ("zero", "two")
    assert isinstance(one, PermissionDenied)


async def test_after_the_timeout_those_without_an_answer_have_failed() -> None:
    three = Together(timeout=0.02)
    await settle()
    three.answer(0, "zero")
    zero, *late = await three.waiting
    assert zero == "zero"
    assert [type(each) for each in late] == [RequestTimeout, RequestTimeout]


def _unanswered(token: str, _: object) -> None:
    """Send nothing."""


async def test_a_request_without_an_answer_fails_after_its_timeout_and_not_before() -> None:
    replies, began = PendingReplies(), time.monotonic()
    with pytest.raises(RequestTimeout, match=r"a: no answer after 0\.12 s"):
        await replies.awaited("a", 0.12, _unanswered)
    assert time.monotonic() - began >= 0.12
    assert len(replies) == 0


async def test_a_long_timeout_keeps_nothing_of_an_answered_request_for_long() -> None:
    clock, replies, sent = Clock(), PendingReplies(), []
    clock.drive()
    waiting = asyncio.create_task(replies.awaited("a", 3_600, lambda token, _: sent.append(token)))
    await settle()
    replies.deliver(sent[0], "one")
    assert await waiting == "one"
    ticks = replies._timeouts._ticks
    assert max(ticks) * 0.05 <= clock.now + 10.1


async def test_a_request_may_take_longer_than_the_wheel_turns() -> None:
    clock, replies = Clock(), PendingReplies()
    clock.drive()
    waiting = asyncio.create_task(replies.awaited("a", 25.0, _unanswered))
    for _ in range(3):
        await clock.advance(0)
        assert not waiting.done()
        clock.now += 8.3
        replies._timeouts._turn(asyncio.get_running_loop())
    clock.now += 0.2
    await settle()
    replies._timeouts._turn(asyncio.get_running_loop())
    with pytest.raises(RequestTimeout, match="after 25 s"):
        await waiting
    replies.stop()
