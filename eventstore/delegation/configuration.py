"""Configuration requests: the keys that may be configured, and nothing else of their bucket.

Whoever may write one key of a bucket can empty it, by a header that rolls it up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.delegation.answering import Refused, answered
from eventstore.errors import ConfigurationError
from eventstore.jetstream.publish import publish_acked
from eventstore.messages.subjects import Subjects
from eventstore.service.runtime_config import KEYS, parse_value

__all__ = ["ConfigurationRequests"]

_OPERATION = "KV-Operation"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class ConfigurationRequests:
    """Sets and unsets configuration keys (`runtime_config`), on `{domain}.api.CONFIG.{key}`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects

    @staticmethod
    def subject(domain: str, key: str) -> str:
        """Where a key is set."""
        return f"{domain}.api.CONFIG.{key}"

    def answers(self) -> dict[str, Answer]:
        """What a `Responder` answers, by subject."""
        return {self.subject(self._subjects.domain, key): answered(self._set) for key in KEYS}

    async def _set(self, request: Request) -> Mapping[str, Any]:
        key = request.subject.removeprefix(self.subject(self._subjects.domain, ""))
        bucket = self._subjects.config_bucket
        headers = _harmless(request.headers)
        if headers.get(_OPERATION) is None:
            _check_value(key, request.payload)
        payload = b"" if _OPERATION in headers else request.payload
        ack = await publish_acked(self._client, f"$KV.{bucket}.{key}", payload, headers)
        return {"stream": f"KV_{bucket}", "seq": ack.seq}


def _harmless(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are handed on: that a key is deleted, and what it is expected to be."""
    operation, expected = headers.get(_OPERATION), headers.get(_EXPECTED)
    if operation not in (None, "DEL"):
        raise Refused(f"{_OPERATION} can only be DEL")
    if expected is not None and not (expected.isascii() and expected.isdecimal()):
        raise Refused(f"{_EXPECTED} is not a number")
    named = {_OPERATION: operation, _EXPECTED: expected}
    return {name: value for name, value in named.items() if value is not None}


def _check_value(key: str, payload: bytes) -> None:
    try:
        parse_value(key, payload.decode(errors="replace"))
    except ConfigurationError as error:
        raise Refused(str(error)) from error
