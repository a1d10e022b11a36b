"""A command worker that kills itself.

`python -m tests.fault.command_process URL DOMAIN POINT [EVENTS FOR A SNAPSHOT]`

At a point between two steps it dies as soon as the first command of a batch is there, when all of
the batch have done the step before; in the middle of a step, when half of a batch has been written
to the socket.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from eventstore.client.client import connect
from eventstore.client.connection import Connection
from eventstore.commands import CommandWorker, Outcome, Outcomes
from eventstore.config import StreamSettings
from eventstore.jetstream.acks import Acknowledgements, TrackedDelivery
from eventstore.store.append import AppendResult
from eventstore.store.pending_append import PendingAppend
from eventstore.store.store import EventStore
from tests.connection import settings_for
from tests.integration.commanding import counting, opened

SHORT_WINDOW = StreamSettings(duplicate_window_ms=100)
"""The server's shortest duplicate window."""

WAIT = 0.5
"""Seconds after which an unacknowledged command is redelivered."""

POINTS = (
    "before the append",
    "after the append",
    "before the outcome",
    "after the outcome",
    "before the acknowledgement",
)


MIDDLES = {
    "in the middle of the appends": "{domain}.log.",
    "in the middle of the outcomes": "$KV.",
    "in the middle of the answers": "_INBOX.",
    "in the middle of the acknowledgements": "$JS.ACK.",
}
"""Points in the middle of a batch's step, and how the subjects begin that are written in it."""

HALF = 8
"""How many commands of a batch have done a step at a point in the middle of it."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle(start: str) -> None:
    """Die when some messages on subjects that begin like this have been written."""
    send, sent = Connection.send, 0

    def dying(own: Connection, subject: str, *message: Any) -> None:
        nonlocal sent
        send(own, subject, *message)
        sent += subject.startswith(start)
        if sent == HALF:
            written = b"".join(own._pending)
            socket: Any = own._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
            os.write(socket.fileno(), written)
            _die()

    Connection.send = dying  # type: ignore[method-assign,assignment]


class DyingStore(EventStore):
    """Dies before or after an append; earlier messages have been answered."""

    point = ""

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        if self.point == "before the append":
            _die()
        appended = await super().append_prepared(*writes)
        if self.point == "after the append":
            _die()
        return appended


class DyingOutcomes(Outcomes):
    """Dies before or after recording an outcome."""

    point = ""

    async def put(self, outcome: Outcome, **options: Any) -> Outcome:
        if self.point == "before the outcome":
            _die()
        kept = await super().put(outcome, **options)
        if self.point == "after the outcome":
            _die()
        return kept


class DyingAcknowledgements(Acknowledgements):
    """Dies before the acknowledgement, after the sender has its outcome."""

    point = ""

    async def ack(self, each: TrackedDelivery) -> None:
        if self.point == "before the acknowledgement":
            await self._client.flush()
            _die()
        await super().ack(each)


async def main(url: str, domain: str, point: str, every: str = "0") -> None:
    """Work until the point is reached."""
    if point in MIDDLES:
        die_in_the_middle(MIDDLES[point].format(domain=domain))
    DyingStore.point = DyingOutcomes.point = DyingAcknowledgements.point = point
    async with (
        connect(settings_for(url)) as client,
        opened(client, counting(domain, int(every) or None), SHORT_WINDOW) as line,
        DyingStore(client, line.domain.codec) as store,
    ):
        worker = CommandWorker(client, line.domain.codec, line.handler(store=store), ack_wait=WAIT)
        worker._outcomes = DyingOutcomes(client, line.subjects)
        worker._acks = DyingAcknowledgements(client, once=False)
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
