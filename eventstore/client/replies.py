"""The answers awaited on one connection, each under its own token; all can be failed at once."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from eventstore.client.connection import nats_errors
from eventstore.errors import ConnectionLost, PermissionDenied, RequestTimeout

__all__ = ["PendingReplies", "Send", "new_token"]

Send = Callable[[str, "asyncio.Future[Any]"], Awaitable[None]]

_TOKEN_BYTES = 12


def new_token() -> str:
    """A token of a reply subject that nobody can guess, and so nobody can answer unasked."""
    return secrets.token_hex(_TOKEN_BYTES)


class PendingReplies:
    """Matches answers with those who wait for them."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[asyncio.Future[Any], str]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def awaited(self, what: str, timeout: float, send: Send) -> Any:
        """The answer to what `send` asks, given a token and the future to complete.

        Raises `RequestTimeout` after `timeout` seconds, and what `fail_all` and `deny` say; `what`
        is asked, and named in their texts.
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

    def deliver(self, token: str, answer: object) -> None:
        """Give the answer to the one who waits for it; one that nobody waits for is dropped."""
        waiting = self._waiting.get(token)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(answer)

    def fail_all(self, problem: str) -> None:
        """Have everyone who waits fail with `ConnectionLost`."""
        for future, what in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(f"{what}: {problem}"))

    def deny(self, subject: str) -> None:
        """Have those who asked on this subject, in lower case, fail with `PermissionDenied`."""
        for future, what in self._waiting.values():
            if what.lower() == subject and not future.done():
                future.set_exception(PermissionDenied(f"the server forbids {what} to this user"))


def _expire(future: asyncio.Future[Any], what: str, timeout: float) -> None:
    if not future.done():
        future.set_exception(RequestTimeout(f"{what}: no answer after {timeout:g} s"))
