"""A process manager that kills itself at a point between two steps.

`python -m tests.fault.reacting_process URL DOMAIN POINT`
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any
from unittest import mock

from eventstore.client.client import connect
from eventstore.commands import CommandClient, ScheduledCommand, SentCommand
from eventstore.jetstream.acks import Acknowledgements, TrackedDelivery
from eventstore.messages.types import Command
from eventstore.store.append import AppendResult
from eventstore.store.pending_append import PendingAppend
from eventstore.store.store import EventStore
from tests.connection import settings_for
from tests.integration.trading import Note, fulfilling, traded

WAIT = 0.5
"""Seconds after which an event that is not acknowledged is redelivered."""

POINTS = (
    "before the reaction",
    "after the reaction",
    "after the command one",
    "after the command two",
    "after the timer",
    "before the acknowledgement",
)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingStore(EventStore):
    """Dies before or after a reaction is recorded to which there are commands."""

    point = ""

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        sends = any(getattr(each, "commands", ()) for write in writes for each in write.events)
        if sends and self.point == "before the reaction":
            _die()
        appended = await super().append_prepared(*writes)
        if sends and self.point == "after the reaction":
            _die()
        return appended


class DyingCommands(CommandClient):
    """Dies after it has sent a command, or set a timer."""

    point = ""

    async def send(self, command: Command, *arguments: Any, **options: Any) -> SentCommand:
        sent = await super().send(command, *arguments, **options)
        if isinstance(command, Note) and self.point == f"after the command {command.text}":
            _die()
        return sent

    async def schedule(self, *arguments: Any, **options: Any) -> ScheduledCommand:
        scheduled = await super().schedule(*arguments, **options)
        if self.point == "after the timer":
            _die()
        return scheduled


class DyingAcknowledgements(Acknowledgements):
    """Dies before it acknowledges an event, when all is done."""

    point = ""
    seen = 0

    async def ack(self, each: TrackedDelivery) -> None:
        DyingAcknowledgements.seen += 1
        if self.point == "before the acknowledgement" and self.seen == 2:
            _die()
        await super().ack(each)


async def main(url: str, domain: str, point: str) -> None:
    """React until the point is reached."""
    DyingStore.point = DyingCommands.point = DyingAcknowledgements.point = point
    async with (
        connect(settings_for(url)) as client,
        traded(client, domain, fulfilling(), worker=False) as trade,
        DyingStore(client, trade.domain.codec) as store,
        DyingCommands(client, trade.domain.codec) as commands,
    ):
        runner = trade.runner(store=store, commands=commands, ack_wait=WAIT)
        with mock.patch(
            "eventstore.subscribers.subscriber.Acknowledgements", DyingAcknowledgements
        ):
            await runner.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
