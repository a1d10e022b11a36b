"""Runs a process: as a subscriber of its events, in the order of the log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from eventstore.client.client import Client
from eventstore.commands import CommandClient, StateCache
from eventstore.messages.envelope import utc_now
from eventstore.processes.process import Process
from eventstore.processes.reactor import Reactor
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.subscribers import EventSubscriber, Subscriber
from eventstore.telemetry import NO_TELEMETRY, Telemetry


def process_runner(
    process: Process[Any],
    client: Client,
    store: EventStore,
    commands: CommandClient,
    *,
    states: StateCache | None = None,
    snapshots: Snapshots | None = None,
    clock: Callable[[], datetime] = utc_now,
    telemetry: Telemetry = NO_TELEMETRY,
    ack_wait: float = 30.0,
) -> EventSubscriber:
    """The subscriber that runs a process, whose durable position has the process's name.

    Any number may run; one of them reacts at a time. Needs the feed. Events that a process fails at
    are parked, as a subscriber's are, and retried as those.
    """
    reactor = Reactor(
        *(process, client, store, commands),
        states=states,
        snapshots=snapshots,
        clock=clock,
        telemetry=telemetry,
    )
    # A pure function fails each time, and the reactor waits for what it cannot reach.
    declared = Subscriber(process.name, start=process.start, max_attempts=1, ack_wait=ack_wait)
    events = process.event_types
    if process.rejected_types:
        events = [*events, process.records.rejected]
    declared.subscribe(events, reactor.handle)
    return EventSubscriber(client, store.codec, declared, telemetry=telemetry)
