"""Pending requests of one connection, each under its own token; all can be failed together."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from eventstore.client.connection import nats_errors
from eventstore.errors import ConnectionLost, PermissionDenied, RequestTimeout

Send = Callable[[str, "asyncio.Future[Any]"], Awaitable[None]]

_TOKEN_BYTES = 12


def new_token() -> str:
    """A token of a reply subject that cannot be guessed, so that nobody can forge an answer."""
    return secrets.token_hex(_TOKEN_BYTES)


class PendingReplies:
    """Matches answers with pending requests."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[asyncio.Future[Any], str]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def awaited(self, what: str, timeout: float, send: Send) -> Any:
        """The answer to the request that `send` sends, given a token and the future to complete.

        Raises `RequestTimeout` after `timeout` seconds, and the errors of `fail_all` and `deny`;
        `what` is the request's subject, and named in their texts.
        """
        loop = asyncio.get_running_loop()
        token = new_token()
        future = loop.create_future()
        timer = loop.call_later(timeout, _expire, future, what, timeout)
        self._waiting[token] = future, what
        try:
            with nats_errors(what):
                await send(token, future)
            return await future
        finally:
            timer.cancel()
            del self._waiting[token]

    def deliver(self, token: str, answer: object) -> bool:
        """Complete the request of a token; returns whether it is pending."""
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(answer)
        return waiting is not None

    def fail_all(self, problem: str) -> None:
        """Fail all pending requests with `ConnectionLost`."""
        for future, what in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(f"{what}: {problem}"))

    def deny(self, subject: str) -> None:
        """Fail the requests on this subject, in lower case, with `PermissionDenied`."""
        for future, what in self._waiting.values():
            if what.lower() == subject and not future.done():
                future.set_exception(PermissionDenied(f"the server forbids {what} to this user"))


def _expire(future: asyncio.Future[Any], what: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(RequestTimeout(f"{what}: no answer after {timeout:g} s"))
