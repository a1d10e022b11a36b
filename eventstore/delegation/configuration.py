"""Configuration requests: set and delete configuration keys, and no others of their bucket.

Whoever may write to one key of a bucket can purge the bucket, by a roll-up header.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.delegation.requests import api_subject, api_tokens, refusal, request_answer
from eventstore.errors import ConfigurationError
from eventstore.jetstream.key_value import DELETED, KeyValue
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.service.runtime_config import KEYS, parse_value

_OPERATION = NatsHeader.KV_OPERATION
_EXPECTED = NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE


class ConfigurationRequests:
    """Sets and unsets configuration keys (`runtime_config`), on `{domain}.api.CONFIG.{key}`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._subjects = subjects
        self._bucket = KeyValue(client, subjects.config_bucket)

    @staticmethod
    def subject(domain: str, key: str) -> str:
        """The subject on which a key is set."""
        return api_subject(domain, "CONFIG", key)

    def answers(self) -> dict[str, Answer]:
        """The answers for a `Responder`, by subject."""
        return {self.subject(self._subjects.domain, key): request_answer(self._set) for key in KEYS}

    async def _set(self, request: Request) -> Mapping[str, Any]:
        key = ".".join(api_tokens(request)[1:])
        headers = _forwarded(request.headers)
        payload = b"" if _OPERATION in headers else request.payload
        if _OPERATION not in headers:
            try:
                parse_value(key, payload.decode(errors="replace"))
            except ConfigurationError as error:
                raise refusal(str(error)) from error
        return {"stream": self._bucket.stream, "seq": await self._bucket.put(key, payload, headers)}


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that are forwarded: the delete marker, and the expected revision."""
    operation, expected = headers.get(_OPERATION), headers.get(_EXPECTED)
    if operation not in (None, DELETED):
        raise refusal(f"{_OPERATION} can only be {DELETED}")
    if expected is not None and not (expected.isascii() and expected.isdecimal()):
        raise refusal(f"{_EXPECTED} is not a number")
    forwarded = {_OPERATION: operation, _EXPECTED: expected}
    return {name: value for name, value in forwarded.items() if value is not None}
