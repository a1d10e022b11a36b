"""Queries: a typed query, its typed answer, and the log position that the answer reflects.

queries = QueryClient(client, subjects)
answer = await queries.ask(GetFlake(id="mine"), wait_for=outcome.position)
print(answer.data.path, answer.position)

async for flake in queries.all(ListFlakes(path_prefix="./")):
    print(flake.id)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from functools import cache
from typing import Any, Generic, TypeVar

import msgspec

from eventstore.client.client import Client, Msg
from eventstore.errors import (
    AnswerTooLarge,
    HistoryTooLong,
    InvalidHeader,
    InvalidPayload,
    QueryError,
    QueryNotFound,
    QueryRefused,
    QueryTimeout,
    ServiceBusy,
)
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import Envelope, Identity, format_timestamp, utc_now
from eventstore.messages.headers import POSITION, Header, position_of
from eventstore.messages.queries import (
    MAX_WAIT,
    WAIT_POSITION,
    WAIT_TIMEOUT,
    Listed,
    ListQuery,
    Query,
)
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.telemetry import NO_TELEMETRY, Telemetry

A = TypeVar("A")
I = TypeVar("I")  # noqa: E741  # an item of a list

_ANSWER_SHARE = 0.8  # of the timeout, for the service's wait; the rest is for the transport


class QueryAnswer(msgspec.Struct, Generic[A], frozen=True):
    """The answer to a query: it reflects the log up to `position`, and nothing after it."""

    data: A
    position: int


class QueryClient:
    """Sends the queries of a domain; `cause` is the message that caused one, `actor` the sender.

    Raises, besides `ClientError` (`NoResponders` if no service runs): `QueryNotFound`,
    `QueryTimeout`, `AnswerTooLarge`, `ServiceBusy` and `QueryRefused` for errors of the service,
    and `InvalidMessage` for a query, or an answer, that does not match its type.
    """

    def __init__(
        self, client: Client, subjects: Subjects, *, telemetry: Telemetry = NO_TELEMETRY
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._telemetry = telemetry

    async def ask(
        self,
        query: Query[A],
        *,
        wait_for: int | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        timeout: float = 5.0,
    ) -> QueryAnswer[A]:
        """Send a query, and return the answer within `timeout` seconds.

        With `wait_for`, the answer reflects at least this position of the log, for example that of
        an outcome, to read one's own writes. Raises what the class says.
        """
        cls = type(query)
        payload = _encode(query)
        subject = self._subjects.query(cls.__aggregate__, cls.__action__)
        with self._telemetry.span("ask", type=cls.__label__) as span:
            headers = Envelope(
                identity=Identity.root() if cause is None else Identity.caused_by(cause),
                type=cls.__label__,
                domain=self._subjects.domain,
                timestamp=format_timestamp(utc_now()),
                schema_version=cls.__schema_version__,
                actor=actor,
                traceparent=span.traceparent,
            ).to_headers()
            del headers[Header.MESSAGE_ID]  # no stream stores it
            if wait_for is not None:
                headers |= _waiting(wait_for, timeout)
            answer = await self._client.request(subject, payload, headers=headers, timeout=timeout)
            return _read(cls, subject, answer)

    async def all(
        self,
        query: ListQuery[I],
        *,
        wait_for: int | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        timeout: float = 5.0,
    ) -> AsyncGenerator[I, None]:
        """The items of a list from `query.after` to its end, `query.limit` in each answer.

        `timeout` is seconds for each answer. If one would be too large, the limit is halved. The
        answers together reflect no single position. Raises what `ask` raises.
        """
        parts = self.parts(query, wait_for=wait_for, cause=cause, actor=actor, timeout=timeout)
        async with aclosing(parts):
            async for answer in parts:
                for item in answer.data.items:
                    yield item

    async def parts(
        self,
        query: ListQuery[I],
        *,
        wait_for: int | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        timeout: float = 5.0,
    ) -> AsyncGenerator[QueryAnswer[Listed[I]], None]:
        """The answers that `all` is made of, each with its position."""
        while True:
            try:
                answer = await self.ask(
                    query, wait_for=wait_for, cause=cause, actor=actor, timeout=timeout
                )
            except AnswerTooLarge:
                if query.limit == 1:
                    raise
                query = msgspec.structs.replace(query, limit=query.limit // 2)
                continue
            yield answer
            if answer.data.next is None:
                return
            query = msgspec.structs.replace(query, after=answer.data.next)


class _Refusal(msgspec.Struct, frozen=True):
    code: str = "unknown"
    message: str = "the answer is an error without a message"


_refusal = msgspec.json.Decoder(_Refusal)


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _encode(query: Query[Any]) -> bytes:
    """The payload; decoded as a check, because structs do not validate their fields."""
    try:
        payload = msgspec.json.encode(query)
        _decoder(type(query)).decode(payload)
    except (*UNDECODABLE, TypeError) as error:
        raise InvalidPayload(f"query {type(query).__name__}: {error}") from error
    return payload


def _waiting(position: int, timeout: float) -> dict[str, str]:
    """Headers that make the service wait, and time out before the request does."""
    seconds = min(timeout * _ANSWER_SHARE, MAX_WAIT)
    return {WAIT_POSITION: str(position), WAIT_TIMEOUT: str(max(1, int(seconds * 1000)))}


def _read(cls: type[Query[Any]], subject: str, answer: Msg) -> QueryAnswer[Any]:
    headers = answer.headers or {}
    if NatsHeader.SERVICE_ERROR in headers:
        raise _error(headers, answer.data)
    position = position_of(headers)
    if position is None:
        raise InvalidHeader(POSITION, f"is missing in the answer of {subject}")
    try:
        data = _decoder(cls.__answer__).decode(answer.data)
    except UNDECODABLE as error:
        raise InvalidPayload(f"answer of {subject}: {error}") from error
    return QueryAnswer(data, position)


def _error(headers: Mapping[str, str], payload: bytes) -> QueryError:
    try:
        refusal = _refusal.decode(payload)
    except UNDECODABLE:  # of a service that does not use this library
        refusal = _Refusal(
            headers.get(NatsHeader.SERVICE_ERROR_CODE, "unknown"), headers[NatsHeader.SERVICE_ERROR]
        )
    for kind in (QueryNotFound, QueryTimeout, AnswerTooLarge, HistoryTooLong, ServiceBusy):
        if kind.code == refusal.code:
            return kind(refusal.message)
    return QueryRefused(refusal.code, refusal.message)
