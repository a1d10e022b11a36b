"""Answers in JetStream's own format, so that clients need not know that the service answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import JetStreamError
from eventstore.jetstream.stored_message import StoredMessage

_REFUSED = 403
_OWN = 0
"""The error code of a refusal, which JetStream itself never gives."""


def refusal(reason: str, code: int = _OWN) -> JetStreamError:
    """The error for a request that is not allowed, or that JetStream refuses with a code."""
    return JetStreamError(code, _REFUSED, reason)


def api_subject(domain: str, *tokens: str) -> str:
    """The subject of a request that the service answers: `{domain}.api.{tokens}`."""
    return ".".join((domain, "api", *tokens))


def api_tokens(request: Request) -> list[str]:
    """The tokens of a request's subject after `{domain}.api`."""
    return request.subject.split(".")[2:]


def request_answer(work: Callable[[Request], Awaitable[Mapping[str, Any]]]) -> Answer:
    """An answer for a `Responder`: what `work` returns, and errors in JetStream's format."""

    async def answer(request: Request) -> Reply:
        try:
            return Reply(msgspec.json.encode(await work(request)))
        except JetStreamError as error:
            subject = f"{request.subject}: " if error.err_code == _OWN else ""
            return _error(error.status, error.err_code, subject + error.description)

    return answer


def stored_answer(message: StoredMessage, subject: str) -> Mapping[str, Any]:
    """The answer to a request for a stored message, with the subject that the requester knows."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
    return {
        "message": {
            "subject": subject,
            "seq": message.sequence,
            "hdrs": f"NATS/1.0\r\n{lines}\r\n".encode(),  # in JSON, bytes are Base64
            "data": message.payload,
        }
    }


def _error(status: int, code: int, description: str) -> Reply:
    error = {"code": status, "err_code": code, "description": description}
    return Reply(msgspec.json.encode({"error": error}))
