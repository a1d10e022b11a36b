"""The queries `{domain}.query.audit.trace`, `.history` and `.search`, over request/reply."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from eventstore.aggregate import Domain
from eventstore.audit import aggregate_history
from eventstore.client import Client
from eventstore.errors import InvalidPayload
from eventstore.responder import Answer
from projections.audit.entries import Filter, Order
from projections.audit.index import AuditIndex

__all__ = ["HistoryQuestion", "SearchQuestion", "TraceQuestion", "audit_answers"]

_Limit = Annotated[int, Meta(ge=1, le=1_000)]


class TraceQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which story to tell: `id` is a command's, an event's or a correlation id."""

    id: str
    limit: _Limit = 200
    depth: Annotated[int, Meta(ge=0)] | None = None


class HistoryQuestion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which aggregate's history to tell, up to a version or a time; its last `limit` events."""

    aggregate: str
    aggregate_id: str
    at_version: Annotated[int, Meta(ge=0)] | None = None
    at_time: Annotated[datetime, Meta(tz=True)] | None = None
    limit: _Limit = 50


class SearchQuestion(Filter, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to search for; `after` is the cursor that the last answer gave as `next`."""

    order: Order = "newest"
    limit: _Limit = 50
    after: str | None = None


Q = TypeVar("Q", bound=Struct)


def audit_answers(index: AuditIndex, client: Client, domain: Domain) -> dict[str, Answer]:
    """What a `Responder` answers; each answer from the index has its log `position`."""

    async def trace(question: TraceQuestion) -> object:
        position = await index.position()
        story = await index.trace(question.id, limit=question.limit, max_depth=question.depth)
        return {"position": position, **msgspec.structs.asdict(story)}

    async def history(question: HistoryQuestion) -> object:
        at = question.at_time if question.at_version is None else question.at_version
        found = await aggregate_history(
            client,
            domain,
            question.aggregate,
            question.aggregate_id,
            at=at,
            limit=question.limit,
        )
        return found.to_dict()

    async def search(question: SearchQuestion) -> object:
        position = await index.position()
        found = await index.search(
            question, order=question.order, limit=question.limit, after=question.after
        )
        return {"position": position, **msgspec.structs.asdict(found)}

    query = domain.codec.subjects.query
    return {
        query("audit", "trace"): _answer(TraceQuestion, trace),
        query("audit", "history"): _answer(HistoryQuestion, history),
        query("audit", "search"): _answer(SearchQuestion, search),
    }


def _answer(cls: type[Q], answer: Callable[[Q], Coroutine[Any, Any, object]]) -> Answer:
    decode = msgspec.json.Decoder(cls).decode

    async def answering(request: bytes) -> bytes:
        try:
            question = decode(request)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise InvalidPayload(f"the request is no {cls.__name__}: {error}") from error
        return msgspec.json.encode(await answer(question))

    return answering
