"""`eventstore events`: what stands in the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from eventstore import nix
from eventstore.cli.connecting import connected
from eventstore.cli.terminal import say
from eventstore.config import Settings
from eventstore.envelope import RecordedEvent
from eventstore.store import EventStore
from eventstore.subjects import check_aggregate_id

__all__ = ["print_events", "stored_events"]


async def stored_events(
    settings: Settings,
    aggregate: str | None,
    aggregate_id: str | None,
    *,
    after: int,
    live: bool,
) -> AsyncGenerator[RecordedEvent, None]:
    """The events after a position: all, those of one kind of aggregate, or of one aggregate.

    With `live` it goes on with what is recorded later, until it is closed.
    """
    codec = nix.domain(settings.nats.subject_prefix).codec
    if aggregate is not None:
        codec.check_aggregate(aggregate)
    if aggregate_id is not None:
        check_aggregate_id(aggregate_id)
    async with connected(settings) as client, EventStore(client, codec) as store:
        if aggregate and aggregate_id and not live:
            events = store.read(aggregate, aggregate_id, leader=True)
        else:
            events = store.read_all(after=after, live=live)
        async with aclosing(events):
            async for event in events:
                if _wanted(event, aggregate, aggregate_id) and event.position > after:
                    yield event


def _wanted(event: RecordedEvent, aggregate: str | None, aggregate_id: str | None) -> bool:
    return aggregate in (None, event.aggregate) and aggregate_id in (None, event.aggregate_id)


async def print_events(
    events: AsyncGenerator[RecordedEvent, None],
    limit: int | None,
    line: Callable[[RecordedEvent], str],
) -> None:
    """Print a line for each event as it comes, at most `limit`, while somebody reads them."""
    count = 0
    async with aclosing(events):
        async for event in events:
            count += 1
            if not say(line(event)) or count == limit:
                return
