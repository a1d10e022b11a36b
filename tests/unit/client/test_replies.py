"""Answers to several requests that are awaited together."""

from __future__ import annotations

import asyncio

from eventstore.client.replies import PendingReplies
from eventstore.errors import ConnectionLost, PermissionDenied, RequestTimeout
from tests.unit.concurrency.clock import settle


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
