"""A log in memory with pages like those of the store, and a small domain to fill it with."""

from __future__ import annotations

import asyncio
import bisect
import itertools
import operator
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from eventstore.errors import InvalidMessage
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, Identity, derive_id, format_timestamp
from eventstore.messages.events import LogEvent, RecordedEvent, UnreadEvent
from eventstore.messages.types import Event
from eventstore.store.reader import Page

E = TypeVar("E", bound=LogEvent)

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOT = "00000000-0000-4000-8000-000000000000"


def time_of(position: int) -> datetime:
    return START + timedelta(seconds=position, microseconds=position)


class MemoryLog:
    """Events in order; a live reader gets those that are appended, too."""

    def __init__(self, codec: Codec) -> None:
        self.events: list[RecordedEvent] = []
        self.unread: list[UnreadEvent] = []
        self.readers: list[dict[str, Any]] = []
        self.before_page: Callable[[Page], None] = lambda _page: None
        self.first_position = 1
        self.name = "2026-01-01T00:00:00Z MEMORY"
        self._codec = codec
        self._versions: dict[tuple[str, str], int] = {}
        self._grown = asyncio.Condition()

    @property
    def end(self) -> int:
        last = [each[-1].position for each in (self.events, self.unread) if each]
        return max(last, default=self.first_position - 1)

    def add(self, aggregate_id: str, *events: Event, actor: str | None = None) -> int:
        for event in events:
            self.events += self._record(aggregate_id, event, actor)
        return self.end

    async def add_live(self, aggregate_id: str, *events: Event) -> int:
        async with self._grown:
            self.add(aggregate_id, *events)
            self._grown.notify_all()
        return self.end

    def add_unread(
        self,
        aggregate: str,
        aggregate_id: str,
        type_: str,
        error: InvalidMessage | None = None,
    ) -> int:
        """An event that an upcaster drops, or that cannot be read because of an `error`."""
        subject, headers = self._stored(aggregate, aggregate_id, type_, None)
        self.unread.append(self._codec.unread(subject, headers, b"{", self.end + 1, error))
        return self.end

    def _record(self, aggregate_id: str, event: Event, actor: str | None) -> list[RecordedEvent]:
        subject, headers = self._stored(
            event.__aggregate__,
            aggregate_id,
            type(event).__name__,
            actor,
            event.__schema_version__,
        )
        return self._codec.recorded(subject, headers, self._codec.encode(event), self.end + 1)

    def _stored(
        self,
        aggregate: str,
        aggregate_id: str,
        type_: str,
        actor: str | None,
        schema_version: int = 1,
    ) -> tuple[str, dict[str, str]]:
        """The subject and the headers of the next event."""
        position = self.end + 1
        version = self._versions.get((aggregate, aggregate_id), 0) + 1
        self._versions[aggregate, aggregate_id] = version
        envelope = Envelope(
            identity=Identity(derive_id(ROOT, str(position)), ROOT, ROOT),
            type=type_,
            domain=self._codec.domain,
            timestamp=format_timestamp(time_of(position)),
            aggregate_id=aggregate_id,
            version=version,
            actor=actor,
            schema_version=schema_version,
        )
        return self._codec.subjects.log(aggregate, aggregate_id), envelope.to_headers()

    async def identity(self) -> str:
        return self.name

    async def read_whole(
        self, aggregate: str, aggregate_id: str, *, leader: bool = False
    ) -> AsyncGenerator[list[RecordedEvent] | UnreadEvent, None]:
        every = Page(self.events, self.end, 0, self.unread).log_events
        own = [e for e in every if (e.aggregate, e.aggregate_id) == (aggregate, aggregate_id)]
        for _, parts in itertools.groupby(own, key=lambda event: event.position):
            found = list(parts)
            if isinstance(found[0], UnreadEvent):
                yield found[0]
            else:
                yield [each for each in found if isinstance(each, RecordedEvent)]

    async def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
        unread: bool = False,
        log: str | None = None,
        shared: bool = False,
    ) -> AsyncGenerator[Page, None]:
        assert unread, "projections are brought all that is in the log"
        self.readers.append({"after": after, "live": live, "skip_unknown": skip_unknown})
        if after >= self.end:
            yield Page([], after, 0)
        while True:
            async with self._grown:
                while self.end <= after:
                    await self._grown.wait()
            events = _after(self.events, after)[:max_events]
            without = _after(self.unread, after)[:max_events]
            ends = [each.position for each in sorted([*events, *without], key=_position)]
            after = ends[:max_events][-1]
            events = [each for each in events if each.position <= after]
            without = [each for each in without if each.position <= after]
            page = Page(events, after, self.end - after, without)
            self.before_page(page)
            yield page


_position = operator.attrgetter("position")


def _after(events: list[E], position: int) -> list[E]:
    return events[bisect.bisect_right(events, position, key=_position) :]
