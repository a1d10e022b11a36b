"""The subscribers of a domain: how far each is, and a reset of its position."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from eventstore.client.api_answers import ConsumerInfo
from eventstore.client.client import Client
from eventstore.errors import NoResponders, NoSuchPosition, PermissionDenied, UnknownSubscriber
from eventstore.jetstream.api import (
    count_messages,
    create_consumer,
    delete_consumer,
    find_consumer,
    list_consumers,
)
from eventstore.jetstream.waiting import waiting_seconds
from eventstore.messages.envelope import new_id
from eventstore.messages.subjects import Subjects
from eventstore.subscribers.consumer import SubscriberConsumer, first_settings, settings_of
from eventstore.subscribers.positions import PositionSearch, Start, log_end
from eventstore.subscribers.subscription import Subscription

SubscriberState = Literal["running", "stopped", "continued"]
"""Whether processes of it run; continued: another name has taken over its position."""


_DELIVERY = ("deliver_policy", "opt_start_seq", "opt_start_time")


class SubscriberStatus(Struct, frozen=True):
    """A subscriber as its consumer shows it.

    All events up to `position` of the log are done. `lag` is how many published events are not, of
    which `unacknowledged` are delivered, the oldest published `lag_seconds` ago; `parked` is how
    many messages it has parked, of which an event that is too large for one takes several; None
    if this user may not read that. `subjects` are what it subscribes to, of which `max_concurrency`
    events are delivered at a time, and redelivered after `ack_wait` seconds.
    """

    name: str
    state: SubscriberState
    position: int
    lag: int
    unacknowledged: int
    redelivered: int
    parked: int | None
    start: int
    subjects: tuple[str, ...]
    continues: str | None = None
    continued_by: str | None = None
    max_concurrency: int = 1
    ack_wait: float = 30.0
    lag_seconds: float = 0.0


class ResetPlan(Struct, frozen=True):
    """A reset that was not carried out: what it would redeliver, and from which settings.

    `events` published ones after `after` of the log will be delivered, `again` of them a second
    time. `position` is None if the consumer was deleted, and with it what was done.
    """

    name: str
    after: int
    position: int | None
    events: int
    again: int
    settings: dict[str, Any]


class Subscribers:
    """The subscribers of a domain; all methods also raise `StreamMissing` and `ClientError`.

    Of those that are `declared`, a reset creates the consumer, if it does not exist.
    """

    def __init__(
        self, client: Client, subjects: Subjects, declared: Iterable[SubscriberConsumer] = ()
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.event_stream
        self._search = PositionSearch(client, subjects)
        self._declared = {each.name: each for each in declared}

    async def list(self) -> list[SubscriberStatus]:
        """All of them, by name."""
        found = await list_consumers(self._client, self._stream)
        named = [each for each in found if each.config.get("durable_name")]
        return [await self._status(each) for each in sorted(named, key=lambda each: each.name)]

    async def get(self, name: str) -> SubscriberStatus:
        """One of them; raises `UnknownSubscriber`."""
        return await self._status(await self._find(name))

    async def plan_reset(self, name: str, start: Start) -> ResetPlan:
        """What a reset to `start` would redeliver; changes nothing.

        Raises `UnknownSubscriber`, also for a name that another one continues, `EventsGone`, and
        `NoSuchPosition` for one that the log has not reached.
        """
        await self._check_start(name, start)
        wanted = self._declared.get(name)
        if wanted is not None and await find_consumer(self._client, self._stream, name) is None:
            return await self._plan_new(wanted, start)
        info = await self._find(name)
        subscription = Subscription.of(info)
        if subscription.continued_by is not None:
            raise UnknownSubscriber(
                f"subscriber {name} was renamed: reset {subscription.continued_by} instead"
            )
        new = msgspec.structs.replace(subscription, start=0, gained={})
        first = await first_settings(self._client, self._subjects, new, start)
        target = Subscription.configured(first)
        events = await self._count(first)
        kept = {
            key: value for key, value in settings_of(info, target).items() if key not in _DELIVERY
        }
        return ResetPlan(
            name,
            after=target.start,
            position=await self._position(info),
            events=events,
            again=max(0, events - info.num_pending - info.num_ack_pending),
            settings={**kept, **{key: first[key] for key in _DELIVERY if key in first}},
        )

    async def _plan_new(self, wanted: SubscriberConsumer, start: Start) -> ResetPlan:
        new = Subscription(wanted.subjects, continues=wanted.continues)
        first = await first_settings(self._client, self._subjects, new, start)
        return ResetPlan(
            wanted.name,
            after=Subscription.configured(first).start,
            position=None,
            events=await self._count(first),
            again=0,
            settings={**wanted.settings, **first},
        )

    async def reset(self, plan: ResetPlan) -> None:
        """Replace the consumer by one that begins where the plan says.

        Processes that run go on with it. If this fails half-way, the name has no position: then
        its next start, or another reset, begins as it is declared.
        """
        if plan.position is not None:
            await delete_consumer(self._client, self._stream, plan.name)
        await create_consumer(self._client, self._stream, plan.name, plan.settings)

    async def _check_start(self, name: str, start: Start) -> None:
        end = await log_end(self._client, self._subjects)
        if isinstance(start, int) and end is not None and start > end:
            raise NoSuchPosition(
                f"subscriber {name} cannot start after position {start}: the log ends at {end}"
            )

    async def _find(self, name: str) -> ConsumerInfo:
        info = await find_consumer(self._client, self._stream, name)
        if info is None:
            raise UnknownSubscriber(
                f"no subscriber {name} has run: {self._stream} has no such consumer; "
                "`eventstore subscriber list` lists those that have run"
            )
        return info

    async def _status(self, info: ConsumerInfo) -> SubscriberStatus:
        subscription = Subscription.of(info)
        continued = subscription.continued_by is not None
        runs = info.num_waiting or info.num_ack_pending
        return SubscriberStatus(
            name=info.name,
            state="continued" if continued else "running" if runs else "stopped",
            position=await self._position(info),
            lag=info.num_pending + info.num_ack_pending,
            unacknowledged=info.num_ack_pending,
            redelivered=info.num_redelivered,
            parked=await self.parked(info.name),
            start=subscription.start,
            subjects=tuple(sorted(subscription.subjects)),
            continues=subscription.continues,
            continued_by=subscription.continued_by,
            max_concurrency=info.config.get("max_ack_pending", 0),
            ack_wait=info.config.get("ack_wait", 0) / 1e9,
            lag_seconds=round(await self._lag_seconds(info, subscription.subjects), 3),
        )

    async def _lag_seconds(self, info: ConsumerInfo, subjects: Iterable[str]) -> float:
        if not info.num_pending and not info.num_ack_pending:
            return 0.0
        after = info.ack_floor.stream_seq
        ages = [await waiting_seconds(self._client, self._stream, each, after) for each in subjects]
        return max(ages, default=0.0)

    async def _position(self, info: ConsumerInfo) -> int:
        if not info.num_pending and not info.num_ack_pending:
            return await self._search.last()
        return await self._search.before(info.ack_floor.stream_seq + 1)

    async def parked(self, name: str) -> int | None:
        """How many messages a subscriber has parked; None if this user may not read that."""
        stream, subject = self._subjects.parked_stream, self._subjects.parked_events(name)
        with contextlib.suppress(PermissionDenied, NoResponders):  # as from another account
            return await count_messages(self._client, stream, subject)
        return None

    async def _count(self, first: dict[str, Any]) -> int:
        """How many published events a consumer with these settings delivers."""
        name = f"count-{new_id()}"
        config = {**first, "ack_policy": "none", "inactive_threshold": 10_000_000_000}
        info = await create_consumer(self._client, self._stream, name, config)
        await delete_consumer(self._client, self._stream, name)
        return info.num_pending
