"""Live: events as the feed publishes them, sent to the browser as they come."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from html import escape

from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from eventstore.audit import SearchAudit
from eventstore.client.client import Client, Msg
from eventstore.console.desk import Desk
from eventstore.console.forms import word
from eventstore.console.pages.endpoint import route
from eventstore.console.pages.stories import aggregates_of
from eventstore.console.source import ANSWER_SECONDS
from eventstore.errors import EventStoreError
from eventstore.messages.headers import POSITION, Header

ROWS = 50
"""How many events a page begins with, and how many are kept for a browser that reads slowly."""

MAX_STREAMS = 50
"""How many browsers may watch at a time."""

_PAUSE = 0.25
_BEAT_SECONDS = 10.0
_FILTERS: Mapping[str, str] = {
    "type": Header.EVENT_TYPE,
    "aggregate_id": Header.AGGREGATE_ID,
    "actor": Header.ACTOR,
}


class LiveEvent(Struct, frozen=True, kw_only=True):
    """What is shown of an event; every text may be anything."""

    type: str
    aggregate: str
    aggregate_id: str
    version: str
    position: str
    time: str
    actor: str
    correlation_id: str

    @classmethod
    def of(cls, message: Msg) -> LiveEvent:
        """The event of a message on the event stream's subjects."""
        headers = message.headers or {}
        aggregate = message.subject.split(".")[2] if message.subject.count(".") > 2 else ""
        return cls(
            type=headers.get(Header.EVENT_TYPE, ""),
            aggregate=aggregate,
            aggregate_id=headers.get(Header.AGGREGATE_ID, ""),
            version=headers.get(Header.AGGREGATE_VERSION, ""),
            position=headers.get(POSITION, ""),
            time=headers.get(Header.TIMESTAMP, ""),
            actor=headers.get(Header.ACTOR, ""),
            correlation_id=headers.get(Header.CORRELATION_ID, ""),
        )


async def _page(request: Request, desk: Desk) -> Response:
    given = _given(request)
    query = SearchAudit(**given, kind="event", limit=ROWS)  # type: ignore[arg-type]
    latest = (await desk.source.queries.ask(query, timeout=ANSWER_SECONDS)).data.items
    return desk.page(
        request,
        "live",
        latest=latest,
        given=given,
        aggregates=aggregates_of(desk),
        types=sorted(desk.personal),
        rows=ROWS,
    )


async def _stream(request: Request, desk: Desk) -> Response:
    if desk.watchers >= MAX_STREAMS:
        raise HTTPException(503, f"{MAX_STREAMS} browsers are watching already.")
    client = desk.connection.client
    given = _given(request)
    subject = desk.domain.codec.subjects.filter("event", given["aggregate"] or "*")

    def matches(message: Msg) -> bool:
        headers = message.headers or {}
        return all(given[name] in (None, headers.get(each)) for name, each in _FILTERS.items())

    def rendered(event: LiveEvent) -> str:
        return desk.fragment(request, "live_row", event=event)

    body = _watched(desk, _events(client, subject, matches, rendered, desk.closing))
    return StreamingResponse(body, media_type="text/event-stream")


def _given(request: Request) -> dict[str, str | None]:
    return {name: word(request, name) for name in ("aggregate", *_FILTERS)}


async def _watched(desk: Desk, lines: AsyncIterator[str]) -> AsyncIterator[str]:
    desk.watchers += 1
    try:
        async for line in lines:
            yield line
    finally:
        desk.watchers -= 1


async def _events(
    client: Client,
    subject: str,
    matches: Callable[[Msg], bool],
    rendered: Callable[[LiveEvent], str],
    closing: asyncio.Event,
) -> AsyncIterator[str]:
    """Server-sent events until the connection is closed; of a flood, the newest are sent."""
    kept: deque[Msg] = deque(maxlen=ROWS)
    arrived = asyncio.Event()
    dropped = 0

    async def receive(message: Msg) -> None:
        nonlocal dropped
        if matches(message):
            dropped += len(kept) == ROWS
            kept.append(message)
            arrived.set()

    try:
        subscription = await client.subscribe(subject, receive)
    except EventStoreError as error:
        yield _sent("state", escape(str(error)))
        return
    try:
        while not (client.is_closed or closing.is_set()):
            yield _sent("state", "live" if client.is_connected else "The server is not reachable.")
            try:
                async with asyncio.timeout(_BEAT_SECONDS):
                    await arrived.wait()
            except TimeoutError:
                continue
            arrived.clear()
            if dropped:
                yield _sent("state", f"live; {dropped} events came too fast to be shown")
            while kept:
                yield _sent("event", rendered(LiveEvent.of(kept.popleft())))
            dropped = 0
            await asyncio.sleep(_PAUSE)
    finally:
        await subscription.unsubscribe()


def _sent(name: str, data: str) -> str:
    """A server-sent event; each line of its data has a prefix."""
    lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
    return f"event: {name}\n{lines}\n"


ROUTES = [route("/live", _page), route("/live/events", _stream)]
