"""`eventstore events`: what stands in the log."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from eventstore import nix
from eventstore.cli.connecting import connected
from eventstore.cli.terminal import say
from eventstore.config import Settings
from eventstore.messages.events import LogEvent
from eventstore.messages.subjects import check_aggregate_id
from eventstore.store.foreign import ForeignMessage
from eventstore.store.store import EventStore

__all__ = ["foreign_messages", "print_events", "stored_events"]


T = TypeVar("T")


async def stored_events(
    settings: Settings,
    aggregate: str | None,
    aggregate_id: str | None,
    *,
    after: int,
    live: bool,
) -> AsyncGenerator[LogEvent, None]:
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
            events = _whole(store, aggregate, aggregate_id)
        else:
            events = store.read_log(after=after, live=live)
        async with aclosing(events):
            async for event in events:
                if _wanted(event, aggregate, aggregate_id) and event.position > after:
                    yield event


async def _whole(
    store: EventStore, aggregate: str, aggregate_id: str
) -> AsyncGenerator[LogEvent, None]:
    async with aclosing(store.read_whole(aggregate, aggregate_id, leader=True)) as stored:
        async for found in stored:
            if isinstance(found, list):
                for event in found:
                    yield event
            else:
                yield found


async def foreign_messages(
    settings: Settings, aggregate: str | None, aggregate_id: str | None, *, after: int
) -> AsyncGenerator[ForeignMessage, None]:
    """The messages of the log that the store did not write, as far as their subjects are wanted."""
    codec = nix.domain(settings.nats.subject_prefix).codec
    wanted = ".".join([codec.domain, "log", *filter(None, (aggregate, aggregate_id))])
    async with (
        connected(settings) as client,
        EventStore(client, codec) as store,
        aclosing(store.read_foreign(after=after)) as found,
    ):
        async for message in found:
            if f"{message.subject}.".startswith(f"{wanted}."):
                yield message


def _wanted(event: LogEvent, aggregate: str | None, aggregate_id: str | None) -> bool:
    return aggregate in (None, event.aggregate) and aggregate_id in (None, event.aggregate_id)


async def print_events(
    events: AsyncGenerator[T, None],
    limit: int | None,
    line: Callable[[T], str],
) -> None:
    """Print a line for each event as it comes, at most `limit`, while somebody reads them."""
    count = 0
    async with aclosing(events):
        async for event in events:
            count += 1
            if not say(line(event)) or count == limit:
                return
