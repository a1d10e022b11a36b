"""Facts: events that no command decides, appended to the log with all that an event has.

Measurements, imports, what another system reports, what follows from another event. They go the
way of all events from there: projections, the feed, audit.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from eventstore.errors import InvalidMessage
from eventstore.messages.context import current
from eventstore.messages.envelope import Identity, NewEvent, derive_id
from eventstore.messages.types import Event
from eventstore.store.store import ANY, Append, Appended, EventStore, Expected

__all__ = ["EventPublisher"]


class EventPublisher:
    """Appends facts to the log, correlated to what the caller is handling.

    Inside a handler (see `eventstore.messages.context`) an event is caused by the message handled
    there, belongs to its story, and has an id derived from it. When the message is handled again,
    each event that was recorded the first time is recognised and not recorded again, for ever. That
    is so as long as the handler publishes events of one type on one aggregate in the same order
    each time; the first recorded data stand, whatever comes the second time, and whatever is
    expected of the aggregate then. An event that is published in one handling and not in another is
    not taken back; where `publish_many` is given more than was recorded together the first time, it
    raises `DuplicateId`.

    Outside of a handler an event is the root of a story of its own, with a new id at each call.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def publish(
        self,
        event: Event,
        aggregate_id: str | None = None,
        *,
        expected: Expected = ANY,
        event_id: str | None = None,
        actor: str | None = None,
        time: datetime | None = None,
    ) -> Appended:
        """Append one event, by default to an aggregate at any version.

        Without an `aggregate_id` it is the first of a new aggregate, whose id is derived from the
        event's. With an `event_id` of the caller's own (a UUID), a repeat is recognised outside
        of a handler too. Recognising a repeat costs a look at the aggregate; see
        `EventStore.append_all`.

        Raises what `EventStore.append_all` raises.
        """
        new, aggregate_id = _new(event, aggregate_id, event_id, actor, time)
        return await self._store.append(
            type(event).__aggregate__, aggregate_id, new, expected=expected
        )

    async def publish_many(
        self,
        events: Iterable[Event | tuple[Event, str]],
        aggregate_id: str | None = None,
        *,
        actor: str | None = None,
    ) -> list[Appended]:
        """Append several events at once, all or none, to aggregates at any version.

        Each is an event, or an event and its aggregate's id; `aggregate_id` is for those without.
        The answers are one for each aggregate, in the order in which they first occur; none for no
        events. Raises what `EventStore.append_all` raises, `BatchTooLarge` among it.
        """
        groups: dict[tuple[str, str], list[NewEvent]] = {}
        for each in events:
            event, own_id = each if isinstance(each, tuple) else (each, aggregate_id)
            new, own_id = _new(event, own_id, None, actor, None)
            groups.setdefault((type(event).__aggregate__, own_id), []).append(new)
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
    aggregate_id: str | None,
    event_id: str | None,
    actor: str | None,
    time: datetime | None,
) -> tuple[NewEvent, str]:
    """The event with its ids, and the aggregate's id."""
    if not hasattr(type(event), "__aggregate__"):
        raise InvalidMessage(f"{type(event).__name__} is no event: it names no subject")
    handling = current()
    identity = None  # a new id need not be looked for in the aggregate
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
    return new, aggregate_id
