"""All answers to one request, where every instance of a service gives its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from eventstore.client.client import Client, Msg, is_unanswerable

_REST_SECONDS = 0.1
"""How long further answers are waited for after the first one."""


async def all_answers(client: Client, subject: str, *, seconds: float = 2.0) -> list[Msg]:
    """The answers that arrive soon after the first one, which may take some `seconds`.

    None if nobody answers. Raises what `Client.request_soon` raises, and the first error that
    comes instead of an answer.
    """
    collector = _Collector()
    forget = client.request_soon(collector, subject, b"")
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await collector.first.wait()
        if collector.answers:
            await asyncio.sleep(_REST_SECONDS)
    finally:
        forget()
    if collector.error is not None and not collector.answers:
        raise collector.error
    return collector.answers


class _Collector:
    def __init__(self) -> None:
        self.answers: list[Msg] = []
        self.error: Exception | None = None
        self.first = asyncio.Event()

    def done(self) -> bool:
        return False

    def set_result(self, answer: Any, /) -> None:
        if not is_unanswerable(answer):
            self.answers.append(answer)
        self.first.set()

    def set_exception(self, error: Any, /) -> None:
        self.error = error
        self.first.set()
