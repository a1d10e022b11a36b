"""Answers in JetStream's own forms, so that who asks need not know who answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import JetStreamError

__all__ = ["Refused", "answered"]

_REFUSED = 403


class Refused(Exception):
    """What is asked for is not allowed; the text says why."""


def answered(work: Callable[[Request], Awaitable[Mapping[str, Any]]]) -> Answer:
    """An answer of a responder: what `work` returns, and errors as JetStream would tell them."""

    async def answer(request: Request) -> Reply:
        try:
            return Reply(msgspec.json.encode(await work(request)))
        except Refused as refusal:
            return _error(_REFUSED, 0, f"{request.subject}: {refusal}")
        except JetStreamError as error:
            return _error(error.status, error.err_code, error.description)

    return answer


def _error(status: int, code: int, description: str) -> Reply:
    error = {"code": status, "err_code": code, "description": description}
    return Reply(msgspec.json.encode({"error": error}))
