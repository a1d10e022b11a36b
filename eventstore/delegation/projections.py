"""Projection requests: rebuild a projection, and retry or discard the events that it has parked.

Only the process that keeps the rows can do that. The queries about projections are answered for all
who may send queries; these requests change something, and are for administrators.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec

from eventstore.client.api_answers import read_answer
from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.delegation.requests import api_subject, api_tokens, refusal, request_answer
from eventstore.errors import EventStoreError
from eventstore.messages.headers import Header, legal_value
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe
from eventstore.messages.undecodable import UNDECODABLE

Verb = Literal["REBUILD", "RETRY", "DISCARD"]

_logger = make_log_records_safe(logging.getLogger(__name__))


class ProjectionActions(Protocol):
    """What carries the requests out; its methods raise `EventStoreError`."""

    def rebuild(self, name: str) -> None:
        """Begin to rebuild a projection; returns at once."""

    async def retry(self, name: str, position: int | None) -> tuple[int, int]:
        """Apply parked events; returns how many are applied, and how many stay parked."""

    async def discard(self, name: str, position: int) -> None:
        """Give a parked event up."""


class _Position(msgspec.Struct):
    position: int | None = None


_decode = msgspec.json.Decoder(_Position).decode


class ProjectionRequests:
    """Rebuilds projections, retries and discards parked events, below `{domain}.api.PROJECTION`."""

    def __init__(self, actions: ProjectionActions, subjects: Subjects) -> None:
        self._actions = actions
        self._domain = subjects.domain

    @staticmethod
    def subject(domain: str, verb: str = "*", projection: str = "*") -> str:
        """The subject of a request about a projection; of all, by default."""
        return api_subject(domain, "PROJECTION", verb, projection)

    def answers(self) -> dict[str, Answer]:
        """The answers for a `Responder`, by subject."""
        verbs: dict[Verb, Callable[[str, int | None], Awaitable[Mapping[str, Any]]]] = {
            "REBUILD": self._rebuild,
            "RETRY": self._retry,
            "DISCARD": self._discard,
        }
        return {self.subject(self._domain, verb): _answer(work) for verb, work in verbs.items()}

    async def _rebuild(self, name: str, _: int | None) -> Mapping[str, Any]:
        self._actions.rebuild(name)
        return {"projection": name}

    async def _retry(self, name: str, position: int | None) -> Mapping[str, Any]:
        retried, left = await self._actions.retry(name, position)
        return {"projection": name, "retried": retried, "left": left}

    async def _discard(self, name: str, position: int | None) -> Mapping[str, Any]:
        if position is None:
            raise refusal("the request names no position")
        await self._actions.discard(name, position)
        return {"projection": name}


class RequestResult(msgspec.Struct, frozen=True):
    """What became of a request: how many parked events were `retried`, and how many are `left`."""

    projection: str
    retried: int = 0
    left: int = 0


async def request_projection(
    client: Client,
    subjects: Subjects,
    verb: Verb,
    projection: str,
    *,
    position: int | None = None,
    actor: str | None = None,
    timeout: float = 30.0,
) -> RequestResult:
    """Send a request; `actor` is who asks for it, which the service logs.

    Raises `JetStreamError` with the reason of a refusal, and what `Client.request` raises:
    `NoResponders` if no service of this release keeps read models.
    """
    subject = ProjectionRequests.subject(subjects.domain, verb, projection)
    headers = {} if actor is None else {Header.ACTOR: actor}
    payload = msgspec.json.encode({"position": position})
    answer = await client.request(subject, payload, headers=headers, timeout=timeout)
    return read_answer(subject, answer.data, RequestResult)


def _answer(work: Callable[[str, int | None], Awaitable[Mapping[str, Any]]]) -> Answer:
    async def answered(request: Request) -> Mapping[str, Any]:
        _, verb, name = api_tokens(request)
        try:
            position = _decode(request.payload or b"{}").position
        except UNDECODABLE as error:
            raise refusal(f"the request cannot be read: {error}") from error
        actor = legal_value(request.headers, Header.ACTOR) or "somebody without a name"
        _logger.warning("projection %s: %s, requested by %s", name, verb.lower(), actor)
        try:
            return await work(name, position)
        except EventStoreError as error:
            raise refusal(str(error)) from error

    return request_answer(answered)
