"""Publishes facts: events that are not decided by a command.

Such as measurements, imports, reports of another system, or consequences of another event. They are
appended to the log and reach projections, the feed and audits as all events do.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from eventstore.errors import InvalidMessage
from eventstore.messages.context import current
from eventstore.messages.envelope import Identity, MessageId, derive_id
from eventstore.messages.events import NewEvent
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Event
from eventstore.store.append import ANY, Append, AppendResult, Expected
from eventstore.store.store import EventStore


class EventPublisher:
    """Appends facts to the log, correlated to the message that the caller is handling.

    Inside a handler (see `eventstore.messages.context`) an event is caused by the message handled
    there, has its correlation, and an id derived from it. When the message is redelivered, each
    event that was recorded the first time is recognised, for ever, and not recorded again. This
    requires that the handler publishes events of one type on one aggregate in the same order each
    time; the data recorded first win, regardless of what is expected of the aggregate later. An
    event that is published at one delivery and not at another is not removed; if `publish_many` is
    called with more events than were recorded together the first time, it raises `DuplicateId`.

    Outside of a handler an event is the root of a new correlation, with a new id at each call.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def publish(
        self,
        event: Event,
        aggregate_id: AggregateId | None = None,
        *,
        expected: Expected = ANY,
        event_id: MessageId | None = None,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> AppendResult:
        """Append one event, by default to an aggregate at any version.

        Without an `aggregate_id` it is the first of a new aggregate, whose id is derived from the
        event's. With an `event_id` of the caller's own (a UUID), a repeat is recognised outside
        of a handler too. Recognising a repeat takes a search in the aggregate; see
        `EventStore.append_all`.

        Raises what `EventStore.append_all` raises.
        """
        new, own_id = _new(event, aggregate_id, event_id, actor, time)
        return await self._store.append(type(event).__aggregate__, own_id, new, expected=expected)

    async def publish_many(
        self,
        events: Iterable[Event | tuple[Event, AggregateId]],
        aggregate_id: AggregateId | None = None,
    ) -> list[AppendResult]:
        """Append several events, all or none, to aggregates at any version.

        Each is an event, or an event and its aggregate's id; `aggregate_id` is for those without.
        Returns one result for each aggregate, in the order in which they first occur; none for no
        events. Raises what `EventStore.append_all` raises, including `BatchTooLarge`.
        """
        groups: dict[tuple[str, str], list[NewEvent]] = {}
        for each in events:
            event, own_id = each if isinstance(each, tuple) else (each, aggregate_id)
            new, checked_id = _new(event, own_id)
            groups.setdefault((type(event).__aggregate__, checked_id), []).append(new)
        if not groups:
            return []
        return await self._store.append_all(
            *(
                Append(aggregate=aggregate, aggregate_id=own_id, events=group)
                for (aggregate, own_id), group in groups.items()
            )
        )


def _new(
    event: Event,
    aggregate_id: AggregateId | None,
    event_id: MessageId | None = None,
    actor: str | None = None,
    time: datetime | None = None,
) -> tuple[NewEvent, str]:
    """The event with its ids, and the aggregate's id."""
    if not hasattr(type(event), "__aggregate__"):
        raise InvalidMessage(f"{type(event).__name__} is not an event: its class has no subject")
    handling = current()
    identity = None  # a new id needs no search in the aggregate
    if handling is not None:
        cls = type(event)
        name = f"{cls.__aggregate__}.{aggregate_id or ''}.{cls.__name__}"
        identity = handling.caused(name, event_id)
    elif event_id is not None:
        identity = Identity.root(event_id)
    if aggregate_id is None:
        identity = identity or Identity.root()
        aggregate_id = derive_id(identity.id, "aggregate")
    new = NewEvent(
        data=event,
        identity=identity,
        timestamp=time,
        actor=actor or (handling.actor if handling else None),
        traceparent=handling.traceparent if handling else None,
    )
    return new, check_aggregate_id(aggregate_id)
