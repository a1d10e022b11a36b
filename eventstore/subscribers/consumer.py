"""A subscriber's durable consumer on the event stream: created, changed, or taken over.

A name may gain and lose events. The filter is the set that was declared last; sets that it replaced
are remembered, so that a process of an older release that is restarted beside newer ones is
recognized, and does not take their events. If no process runs, the one that starts decides, which
is how a release is rolled back. Of two new sets declared at the same time the larger one stays,
whichever was written last: the server updates a consumer unconditionally, so each process checks
afterwards whether its update was replaced.

A new name may continue an old one: first the old consumer's filter is replaced by one that matches
nothing, then the new consumer starts after what the old one has acknowledged. A crash in between
loses nothing: the next start of the new name does the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Self

import msgspec
from msgspec import Struct

from eventstore.client.api_answers import ConsumerInfo
from eventstore.client.client import Client
from eventstore.errors import StreamMissing, SubscriberContinued, SubscriberLost
from eventstore.jetstream.api import find_consumer, update_consumer
from eventstore.jetstream.topology import ConsumerSpec, declare_consumer
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe
from eventstore.subscribers.declaration import Subscriber
from eventstore.subscribers.positions import PositionSearch, Start, log_end
from eventstore.subscribers.subscription import FILTER, Subscription, filter_of, subjects_of

_REPLACED = (*FILTER, "metadata", "name")
_DEFAULTS = {"max_waiting": 512, "num_replicas": 0, "replay_policy": "instant"}  # the server's
_SETTLE_SECONDS = 5.0
_SETTLE_PAUSE = 0.1
_REPLACED_SECONDS = 0.25  # by then, processes that missed this update have written theirs
_MAX_ADJUSTMENTS = 10
_RESET_SECONDS = 1.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class SubscriberConsumer(Struct, frozen=True):
    """A subscriber's consumer as its declaration wants it.

    It delivers events of `subjects`, `max_concurrency` at a time, and again after `ack_wait`
    seconds. `continues` is the name whose position a new one takes over.
    """

    name: str
    subjects: frozenset[str]
    max_concurrency: int = 1
    ack_wait: float = 30.0
    continues: str | None = None

    @classmethod
    def of(cls, subjects: Subjects, declared: Subscriber) -> Self:
        """That of a declared subscriber, with the events that have handlers by now."""
        return cls(
            declared.name,
            subjects_of(subjects, declared.event_types),
            declared.max_concurrency,
            declared.ack_wait,
            declared.continues,
        )

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings that an existing one must have."""
        return {"durable_name": self.name, "ack_policy": "explicit", "max_deliver": -1}

    @property
    def adjustable(self) -> dict[str, Any]:
        """The settings that an existing one gets, apart from its filter."""
        return {"ack_wait": round(self.ack_wait * 1e9), "max_ack_pending": self.max_concurrency}

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of a new one, without where it begins."""
        return {**self.fixed, **self.adjustable, **filter_of(self.subjects)}


async def declare_subscriber(
    client: Client, subjects: Subjects, wanted: SubscriberConsumer, start: Start
) -> Subscription:
    """Create the durable consumer, or have the existing one deliver other subjects.

    Its filter may change, as may how many events are delivered at a time and for how long; the
    existing one keeps its position. A new one takes over the position of the name that it
    continues, if there is one, and otherwise begins at `start`. Returns what the consumer delivers,
    which are other subjects if this process is of an older release than others that run.

    Raises `EventsGone` (a new one only), `SubscriberContinued`, `StreamDrift`, `StreamMissing` and
    `ClientError`.
    """
    stream, name, continues = subjects.event_stream, wanted.name, wanted.continues
    found = await find_consumer(client, stream, name)
    first: dict[str, Any] = {}
    if found is None:
        new = Subscription(wanted.subjects, continues=continues)
        first = await first_settings(client, subjects, new, start)
        if continues is not None:
            first = await _take_over(client, subjects, continues, name, wanted.subjects) or first
    spec = ConsumerSpec(stream, name, wanted.fixed, {**wanted.adjustable, **first})
    declared = await declare_consumer(client, spec)
    subscription = Subscription.of(declared)
    if subscription.continued_by is not None:
        raise SubscriberContinued(
            f"subscriber {name} was renamed: {subscription.continued_by} has taken over its "
            "position; this is a process of an older release, or use the new name"
        )
    if found is not None and continues != subscription.continues and continues is not None:
        await _refuse_second_position(client, subjects, name, continues)
    return await _adjusted(client, subjects, declared, wanted.subjects, wanted.adjustable)


async def check_consumer(client: Client, subjects: Subjects, name: str) -> Subscription:
    """What the subscriber's consumer delivers now, if it exists.

    Raises `SubscriberLost` if it does not exist, also a second later, as it does again after a
    reset; raises `ClientError`.
    """
    stream = subjects.event_stream
    found = await find_consumer(client, stream, name)
    if found is None:
        await asyncio.sleep(_RESET_SECONDS)
        found = await find_consumer(client, stream, name)
    if found is None:
        raise SubscriberLost(
            f"consumer {name} of stream {stream} was deleted, and with it this subscriber's "
            "position; it waits until the consumer is created again, by `eventstore subscriber "
            f"reset {name}` with the position to begin at, or by another start of its service, "
            "which begins from scratch"
        )
    return Subscription.of(found)


async def first_settings(
    client: Client, subjects: Subjects, new: Subscription, start: Start
) -> dict[str, Any]:
    """The settings with which a new consumer begins at `start`; raises `EventsGone`."""
    after = await log_end(client, subjects) if start == "new" else start
    if not isinstance(after, int):
        return {"deliver_policy": after or "new", **new.settings()}
    sequence = await PositionSearch(client, subjects).first_after(after)
    new = msgspec.structs.replace(new, start=after)
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": sequence, **new.settings()}


async def _adjusted(
    client: Client,
    subjects: Subjects,
    info: ConsumerInfo,
    wanted: frozenset[str],
    adjustable: Mapping[str, Any],
) -> Subscription:
    """Have the consumer deliver these subjects with these settings, unless a newer one decides."""
    for _ in range(_MAX_ADJUSTMENTS):
        current = Subscription.of(info)
        if current.is_older(wanted) and (info.num_waiting or info.num_ack_pending):
            _logger.warning(
                "subscriber %s: newer processes run, and what it subscribes to stays as they have "
                "set it; events that this process has no handler for are left to them",
                info.name,
            )
            return current
        if current.subjects == wanted and _has(info, adjustable):
            return current
        info = await _update(client, subjects, info.name, wanted, adjustable)
        if current.subjects != wanted:
            await asyncio.sleep(_REPLACED_SECONDS)
            info = await _existing(client, subjects.event_stream, info.name)
            if _is_replaced(info, wanted):
                return await _remember(client, subjects, info, wanted)
    return Subscription.of(info)


def _is_replaced(info: ConsumerInfo, wanted: frozenset[str]) -> bool:
    """Whether these subjects, set just now, were replaced by others that stay."""
    current = Subscription.of(info)
    return current.is_older(wanted) or current.prevails_over(wanted)


async def _remember(
    client: Client, subjects: Subjects, info: ConsumerInfo, older: frozenset[str]
) -> Subscription:
    """Have the subjects that were replaced unseen known as older ones."""
    current = Subscription.of(info)
    if not current.is_older(older):
        settings = settings_of(info, current.replacing(older))
        info = await update_consumer(client, subjects.event_stream, info.name, settings)
    return Subscription.of(info)


def _has(info: ConsumerInfo, settings: Mapping[str, Any]) -> bool:
    return all(info.config.get(key) == value for key, value in settings.items())


async def _update(
    client: Client,
    subjects: Subjects,
    name: str,
    wanted: frozenset[str],
    adjustable: Mapping[str, Any],
) -> ConsumerInfo:
    end = await log_end(client, subjects)
    if end is None:
        end = await PositionSearch(client, subjects).last()
    info = await _existing(client, subjects.event_stream, name)  # as late as possible
    current = Subscription.of(info)
    settings = {**settings_of(info, current.changed(wanted, end)), **adjustable}
    updated = await update_consumer(client, subjects.event_stream, name, settings)
    changed = {
        "gained": sorted(wanted - current.subjects),
        "lost": sorted(current.subjects - wanted),
        "set": sorted(key for key, value in adjustable.items() if info.config.get(key) != value),
    }
    said = (f"{verb} {', '.join(what)}" for verb, what in changed.items() if what)
    _logger.info("subscriber %s: %s", name, "; ".join(said))
    return updated


async def _take_over(
    client: Client, subjects: Subjects, old: str, name: str, wanted: frozenset[str]
) -> dict[str, Any] | None:
    """The first settings of the consumer `name`, at the old one's position; None without one."""
    stream = subjects.event_stream
    found = await find_consumer(client, stream, old)
    if found is None:
        return None
    subscription = Subscription.of(found)
    if subscription.continued_by not in (None, name):
        raise SubscriberContinued(
            f"subscriber {name} cannot continue {old}: {subscription.continued_by} has taken over "
            "its position; continue that one"
        )
    if subscription.continued_by is None:
        fenced = msgspec.structs.replace(subscription, continued_by=name)
        await update_consumer(client, stream, old, settings_of(found, fenced))
    done = await _settled(client, stream, old)
    end = await log_end(client, subjects)
    if end is None:
        end = await PositionSearch(client, subjects).last()
    own = subscription.changed(wanted, end)
    own = msgspec.structs.replace(own, continues=old, continued_by=None, former=())
    _logger.info("subscriber %s: continues %s after sequence %d of %s", name, old, done, stream)
    first = {"deliver_policy": "by_start_sequence", "opt_start_seq": done + 1}
    return {**first, **own.settings()}


async def _settled(client: Client, stream: str, name: str) -> int:
    """The sequence up to which a consumer is done, when what it has delivered is acknowledged.

    After some seconds it is what is done by then: the rest was interrupted, or takes longer.
    """
    deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
    while True:
        found = await _existing(client, stream, name)
        if not found.num_ack_pending or asyncio.get_running_loop().time() > deadline:
            return found.ack_floor.stream_seq
        await asyncio.sleep(_SETTLE_PAUSE)


async def _existing(client: Client, stream: str, name: str) -> ConsumerInfo:
    found = await find_consumer(client, stream, name)
    if found is None:
        raise StreamMissing(
            f"consumer {name} of stream {stream} was deleted meanwhile; start again"
        )
    return found


async def _refuse_second_position(client: Client, subjects: Subjects, name: str, old: str) -> None:
    found = await find_consumer(client, subjects.event_stream, old)
    if found is not None and Subscription.of(found).continued_by != name:
        raise SubscriberContinued(
            f"subscriber {name} cannot continue {old}: it has a position of its own already; "
            f"delete one of the two consumers of stream {subjects.event_stream}, or do not "
            "continue"
        )


def settings_of(info: ConsumerInfo, subscription: Subscription) -> dict[str, Any]:
    """An existing consumer's settings, with another subscription."""
    kept = {
        name: value
        for name, value in info.config.items()
        if name not in _REPLACED and _DEFAULTS.get(name) != value
    }
    return {**kept, **subscription.settings(info.config.get("metadata"))}
