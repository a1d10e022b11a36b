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
from eventstore.jetstream.key_value import DELETED, KeyValue
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.service.runtime_config import KEYS, parse_value

__all__ = ["ConfigurationRequests"]

_OPERATION = NatsHeader.KV_OPERATION
_EXPECTED = NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE


class ConfigurationRequests:
    """Sets and unsets configuration keys (`runtime_config`), on `{domain}.api.CONFIG.{key}`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._subjects = subjects
        self._bucket = KeyValue(client, subjects.config_bucket)

    @staticmethod
    def subject(domain: str, key: str) -> str:
        """Where a key is set."""
        return f"{domain}.api.CONFIG.{key}"

    def answers(self) -> dict[str, Answer]:
        """What a `Responder` answers, by subject."""
        return {self.subject(self._subjects.domain, key): answered(self._set) for key in KEYS}

    async def _set(self, request: Request) -> Mapping[str, Any]:
        key = request.subject.removeprefix(self.subject(self._subjects.domain, ""))
        headers = _harmless(request.headers)
        if headers.get(_OPERATION) is None:
            _check_value(key, request.payload)
        payload = b"" if _OPERATION in headers else request.payload
        return {"stream": self._bucket.stream, "seq": await self._bucket.put(key, payload, headers)}


def _harmless(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are handed on: that a key is deleted, and what it is expected to be."""
    operation, expected = headers.get(_OPERATION), headers.get(_EXPECTED)
    if operation not in (None, DELETED):
        raise Refused(f"{_OPERATION} can only be {DELETED}")
    if expected is not None and not (expected.isascii() and expected.isdecimal()):
        raise Refused(f"{_EXPECTED} is not a number")
    named = {_OPERATION: operation, _EXPECTED: expected}
    return {name: value for name, value in named.items() if value is not None}


def _check_value(key: str, payload: bytes) -> None:
    try:
        parse_value(key, payload.decode(errors="replace"))
    except ConfigurationError as error:
        raise Refused(str(error)) from error
