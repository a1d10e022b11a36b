"""The list of actions, newest first, for everybody who may query the audit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from eventstore.actions.log import Begun, Ended
from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.errors import InvalidPayload
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.envelope import instant
from eventstore.messages.headers import POSITION
from eventstore.messages.queries import Listed, ListQuery, read_query
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE

ActionStatus = Literal["done", "failed", "unknown"]
"""How an action ended; of one that runs, or whose end was not recorded, that is unknown."""

UNREADABLE = "(unreadable)"
"""The name of an action whose record cannot be read."""

_MAX_EXAMINED = 20_000
_CURSOR_DIGITS = 18

_Text = Annotated[str, Meta(max_length=1_000)]
_Instant = Annotated[datetime, Meta(tz=True)]


class ActionView(Struct, frozen=True, kw_only=True):
    """An action: what was done to which `target`, and by whom.

    `actor` is what its program says; `user` the NATS user according to the server, None where all
    users share an account. `time` and `ended` are the server's. `code` is that of the error with
    which it `failed`.
    """

    id: str
    action: str
    target: str
    actor: str
    user: str | None
    time: datetime
    status: ActionStatus
    ended: datetime | None = None
    code: str | None = None


class ListActions(ListQuery[ActionView], subject="audit.actions"):
    """Find administrative actions that match all given filters, newest first.

    `since` is inclusive, `until` exclusive. A page may have fewer items than the `limit`, even
    none, and be followed by others: it examines a bounded number of actions.
    """

    __label__: ClassVar[str] = "ListActions"

    actor: _Text | None = None
    action: _Text | None = None
    target: _Text | None = None
    since: _Instant | None = None
    until: _Instant | None = None


_decode_record = msgspec.json.Decoder(Begun | Ended).decode


def action_answers(client: Client, subjects: Subjects) -> dict[str, Answer]:
    """The endpoint of `ListActions`, for a `Responder`."""

    async def answer(request: Request) -> Reply:
        found = await list_actions(client, subjects, read_query(ListActions, request.payload))
        return Reply(msgspec.json.encode(found), {POSITION: "0"})

    return {subjects.query(ListActions.__aggregate__, ListActions.__action__): answer}


async def list_actions(
    client: Client, subjects: Subjects, query: ListActions
) -> Listed[ActionView]:
    """Answer a query from the stream.

    Raises `InvalidPayload` for a forged cursor, `StreamMissing` and other `ClientError`s.
    """
    reader = DirectReader(client, subjects.action_stream)
    last = await reader.leader_last(subjects.all_actions)
    end = 0 if last is None else last.sequence
    before = end + 1 if query.after is None else _sequence(query.after)
    found: list[tuple[StoredMessage, Begun]] = []
    following, examined = None, 0
    async with aclosing(_backwards(reader, subjects.all_actions, before)) as messages:
        async for message in messages:
            if query.since is not None and _time(message) < query.since:
                break
            if len(found) == query.limit or examined == _MAX_EXAMINED:
                following = str(message.sequence + 1)
                break
            examined += 1
            record = _record(message)
            if isinstance(record, Begun) and _matches(query, record, message):
                found.append((message, record))
    ends = await _ends(reader, [message.subject for message, _ in found], end)
    items = [_view(message, begun, ends.get(message.subject)) for message, begun in found]
    return Listed(items=items, next=following)


def _sequence(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) <= _CURSOR_DIGITS):
        raise InvalidPayload(f"query ListActions: {cursor[:80]!r} is not a cursor")
    return int(cursor)


async def _backwards(
    reader: DirectReader, subject: str, before: int
) -> AsyncGenerator[StoredMessage, None]:
    """The messages before a sequence, newest first."""
    while before > 1:
        after = max(0, before - 1 - MAX_PAGE)
        page, _ = await reader.page(subject, after)
        for message in reversed(page):
            if message.sequence < before:
                yield message
        before = after + 1


def _matches(query: ListActions, begun: Begun, message: StoredMessage) -> bool:
    wanted = (query.actor, begun.actor), (query.action, begun.action), (query.target, begun.target)
    if any(value not in (None, found) for value, found in wanted):
        return False
    return query.until is None or _time(message) < query.until


async def _ends(
    reader: DirectReader, subjects: Sequence[str], end: int
) -> dict[str, StoredMessage]:
    return {each.subject: each for each in await reader.last_of_each(subjects, end)}


def _view(message: StoredMessage, begun: Begun, last: StoredMessage | None) -> ActionView:
    _, _, user, action_id = message.subject.split(".")
    ended = None if last is None else _record(last)
    status: ActionStatus = "unknown"
    if isinstance(ended, Ended):
        status = "done" if ended.code is None else "failed"
    return ActionView(
        id=action_id,
        action=begun.action,
        target=begun.target,
        actor=begun.actor,
        user=None if user == Subjects.UNKNOWN_USER else user,
        time=_time(message),
        status=status,
        ended=_time(last) if last is not None and isinstance(ended, Ended) else None,
        code=ended.code if isinstance(ended, Ended) else None,
    )


def _record(message: StoredMessage) -> Begun | Ended:
    try:
        record: Begun | Ended = _decode_record(message.payload)
    except UNDECODABLE:
        return Begun(UNREADABLE, "", "")
    return record


def _time(message: StoredMessage) -> datetime:
    return instant(message.time)
