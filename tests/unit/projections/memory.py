"""A log in memory that hands out pages as the store does, and a small domain to fill it with."""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from eventstore.codec import Codec
from eventstore.direct import StoredMessage
from eventstore.envelope import Envelope, Identity, RecordedEvent, derive_id, format_timestamp
from eventstore.history import Page
from eventstore.messages import Event

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = "00000000-0000-4000-8000-000000000000"


def time_of(position: int) -> datetime:
    return START + timedelta(seconds=position, microseconds=position)


class MemoryLog:
    """Events in order; what is appended while somebody reads live is handed out, too."""

    def __init__(self, codec: Codec) -> None:
        self.events: list[RecordedEvent] = []
        self.readers: list[dict[str, Any]] = []
        self.before_page: Callable[[Page], None] = lambda _page: None
        self.first_position = 1
        self.name = "2026-01-01T00:00:00Z MEMORY"
        self._codec = codec
        self._versions: dict[tuple[str, str], int] = {}
        self._grown = asyncio.Condition()

    @property
    def end(self) -> int:
        return self.events[-1].position if self.events else self.first_position - 1

    def add(self, aggregate_id: str, *events: Event, actor: str | None = None) -> int:
        for event in events:
            self.events += self._record(aggregate_id, event, actor)
        return self.end

    async def add_live(self, aggregate_id: str, *events: Event) -> int:
        async with self._grown:
            self.add(aggregate_id, *events)
            self._grown.notify_all()
        return self.end

    def _record(self, aggregate_id: str, event: Event, actor: str | None) -> list[RecordedEvent]:
        aggregate, position = event.__aggregate__, self.end + 1
        version = self._versions.get((aggregate, aggregate_id), 0) + 1
        self._versions[aggregate, aggregate_id] = version
        envelope = Envelope(
            identity=Identity(derive_id(ROOT, str(position)), ROOT, ROOT),
            type=type(event).__name__,
            domain=self._codec.domain,
            timestamp=format_timestamp(time_of(position)),
            aggregate_id=aggregate_id,
            version=version,
            actor=actor,
        )
        subject = self._codec.subjects.log(aggregate, aggregate_id)
        payload = self._codec.encode(event)
        return self._codec.recorded(subject, envelope.to_headers(), payload, position)

    async def identity(self) -> str:
        return self.name

    async def read_stored(
        self, aggregate: str, aggregate_id: str, *, leader: bool = False
    ) -> AsyncGenerator[tuple[StoredMessage, list[RecordedEvent]], None]:
        own = [e for e in self.events if (e.aggregate, e.aggregate_id) == (aggregate, aggregate_id)]
        for position, parts in itertools.groupby(own, key=lambda event: event.position):
            subject = self._codec.subjects.log(aggregate, aggregate_id)
            found = list(parts)
            yield StoredMessage(subject, position, {}, found[0].payload), found

    async def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
        log: str | None = None,
    ) -> AsyncGenerator[Page, None]:
        self.readers.append({"after": after, "live": live, "skip_unknown": skip_unknown})
        if after >= self.end:
            yield Page([], after, 0)
        while True:
            async with self._grown:
                while self.end <= after:
                    await self._grown.wait()
            begin = bisect.bisect_right(self.events, after, key=lambda event: event.position)
            events = self.events[begin:][:max_events]
            after = events[-1].position
            page = Page(events, after, self.end - after)
            self.before_page(page)
            yield page
