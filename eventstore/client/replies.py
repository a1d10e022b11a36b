"""Pending requests of one connection, each under its own token; all can be failed together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from eventstore.concurrency.timer_wheel import TimerWheel
from eventstore.errors import ClientError, ConnectionLost, PermissionDenied, RequestTimeout

Send = Callable[[str, "asyncio.Future[Any]"], None]

_MAX_TURN = 10.0  # seconds, for which the wheel keeps the token of a request that is over
_TOKEN_BYTES = 12
_TOKEN_DIGITS = 2 * _TOKEN_BYTES


class Receiver(Protocol):
    """What takes one answer, or the error instead of it; a future is one."""

    def done(self) -> bool:
        """Whether it has taken one."""

    def set_result(self, result: Any, /) -> None:
        """Take the answer."""

    def set_exception(self, exception: Any, /) -> None:
        """Take the error."""


def new_token() -> str:
    """A token of a reply subject that cannot be guessed, so that nobody can forge an answer."""
    return os.urandom(_TOKEN_BYTES).hex()  # as `secrets.token_hex` does, in half the time


class _Waiting(Struct):
    """Who waits for the answer to a request, its subject, for how many seconds, and until when."""

    receiver: Receiver
    what: str
    timeout: float = 0.0
    until: float = 0.0


class PendingReplies:
    """Matches answers with pending requests; `on_late` is called with the subject of a late one."""

    def __init__(self, on_late: Callable[[str], object] = str) -> None:
        self._on_late = on_late
        self._waiting: dict[str, _Waiting] = {}
        self._together: dict[str, _Together] = {}
        self._timeouts = TimerWheel[str](self._expire)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._together)

    async def awaited(self, what: str, timeout: float, send: Send) -> Any:
        """The answer to the request that `send` sends, given a token and the future to complete.

        Raises `RequestTimeout` after `timeout` seconds, or up to 50 ms later, and the errors of
        `fail_all` and `deny`; `what` is the request's subject, and named in their texts.
        """
        future, token = asyncio.get_running_loop().create_future(), new_token()
        self._await_until(token, future, what, timeout)
        try:
            send(token, future)
            return await future
        finally:
            del self._waiting[token]

    def _expire(self, token: str) -> None:
        """Fail a request that has no answer in time, or look again when that is over."""
        waiting = self._waiting.get(token)
        if waiting is None or waiting.receiver.done():
            return
        left = waiting.until - asyncio.get_running_loop().time()
        if left > 0:
            self._timeouts.add(token, min(left, _MAX_TURN))
        else:
            waiting.receiver.set_exception(self._late(waiting.what, waiting.timeout))

    def _late(self, what: str, timeout: float) -> ClientError:
        self._on_late(what)
        return RequestTimeout(f"{what}: no answer after {timeout:g} s")

    async def awaited_together(
        self, subjects: Sequence[str], timeout: float, send: Callable[[str], None]
    ) -> list[Any]:
        """The answer to each of several requests, or the `ClientError` instead of it.

        `send` sends all of them; the token of each is the given one and, after it, its index in
        `subjects`. Takes one future and one timer for all.
        """
        loop = asyncio.get_running_loop()
        token = new_token()
        together = self._together[token] = _Together(subjects, loop.create_future())
        timer = loop.call_later(timeout, together.fail, lambda what: self._late(what, timeout))
        try:
            send(token)
            await together.complete
        finally:
            timer.cancel()
            del self._together[token]
        return together.answers

    def await_by(self, receiver: Receiver, what: str, timeout: float | None = None) -> str:
        """Pass the next answers to `receiver`, until it is done; returns their token, for `forget`.

        If it is not after `timeout` seconds, it fails with `RequestTimeout`.
        """
        token = new_token()
        if timeout is None:
            self._waiting[token] = _Waiting(receiver, what)
        else:
            self._await_until(token, receiver, what, timeout)
        return token

    def _await_until(self, token: str, receiver: Receiver, what: str, timeout: float) -> None:
        until = asyncio.get_running_loop().time() + timeout
        self._waiting[token] = _Waiting(receiver, what, timeout, until)
        self._timeouts.add(token, min(timeout, _MAX_TURN))

    def forget(self, token: str) -> None:
        """Take no answer for this token any more."""
        self._waiting.pop(token, None)

    def deliver(self, token: str, answer: object) -> bool:
        """Complete the request of a token; returns whether it is pending."""
        waiting = self._waiting.get(token)
        if waiting is not None:
            if not waiting.receiver.done():
                waiting.receiver.set_result(answer)
        elif (together := self._together.get(token[:_TOKEN_DIGITS])) is not None:
            together.deliver(token[_TOKEN_DIGITS:], answer)
        else:
            return False
        return True

    def stop(self) -> None:
        """Let no request that is pending still expire."""
        self._timeouts.stop()

    def fail_all(self, problem: str) -> None:
        """Fail all pending requests with `ConnectionLost`."""
        for waiting in list(self._waiting.values()):
            if not waiting.receiver.done():
                waiting.receiver.set_exception(ConnectionLost(f"{waiting.what}: {problem}"))
        for together in self._together.values():
            together.fail(lambda what: ConnectionLost(f"{what}: {problem}"))

    def deny(self, subject: str) -> None:
        """Fail the requests on this subject, in lower case, with `PermissionDenied`."""
        for waiting in list(self._waiting.values()):
            if waiting.what.lower() == subject and not waiting.receiver.done():
                waiting.receiver.set_exception(_denied(waiting.what))
        for together in self._together.values():
            together.fail(_denied, subject)


class _Together:
    """Several requests that are awaited together, and their answers so far."""

    def __init__(self, subjects: Sequence[str], complete: asyncio.Future[None]) -> None:
        self.answers: list[Any] = [None] * len(subjects)
        self.complete = complete
        self._subjects = subjects
        self._count = self._missing = len(subjects)

    def deliver(self, index: str, answer: object) -> None:
        """Take the answer to the request of this index, the first one only."""
        number = int(index) if index.isdecimal() else self._count
        if number < self._count:
            self._take(number, answer)

    def fail(self, error_of: Callable[[str], ClientError], subject: str | None = None) -> None:
        """Fail those that are not answered; only those on `subject`, in lower case, if given."""
        for index, what in enumerate(self._subjects):
            if subject in (None, what.lower()):
                self._take(index, error_of(what))

    def _take(self, index: int, answer: object) -> None:
        if self.answers[index] is None:
            self.answers[index] = answer
            self._missing -= 1
            if not self._missing and not self.complete.done():
                self.complete.set_result(None)


def _denied(what: str) -> ClientError:
    return PermissionDenied(f"the server forbids {what} to this user")
