"""What a run has left, read by plain clients: the streams by nats-py, the rows by sqlite3."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from tests.fault.checker.history import Message

TABLES = {
    "balance": 'SELECT id, "limit", balance FROM balance',
    "movement": "SELECT id, version, amount FROM movement",
    "eventstore_audit_event": (
        "SELECT position, id, type, aggregate, aggregate_id, version FROM eventstore_audit_event"
    ),
    "eventstore_projection": (
        "SELECT name, position FROM eventstore_projection WHERE name IN ('accounts', 'statement')"
    ),
}
"""The tables that the judge compares, and how they are read."""

_PAGE = 500
_INACTIVE = 30.0


class Streams:
    """The streams of a domain, as a plain client has them."""

    def __init__(self, client: Nats, domain: str) -> None:
        self._jetstream: JetStreamContext = client.jetstream(timeout=5)
        self._domain = domain.upper()

    async def messages(self, name: str) -> list[Message]:
        """All messages of the stream `LOG`, `EVENT` or `PARKED`, in their order."""
        return [_message(each) for each in await self._all(f"{self._domain}_{name}")]

    async def outcomes(self) -> dict[str, dict[str, Any]]:
        """The stored outcomes by command id."""
        stored = await self._all(f"KV_{self._domain}_OUTCOMES")
        found = {each.subject.rpartition(".")[2]: each.data for each in stored if each.data}
        return {key: json.loads(value) for key, value in found.items()}

    async def pending(self) -> list[str]:
        """What is still to be done: commands in the queue, and events before subscribers."""
        log, events, queue = [
            await self._jetstream.stream_info(f"{self._domain}_{name}")
            for name in ("LOG", "EVENT", "CMD")
        ]
        pending = [f"{queue.state.messages} commands in the queue"] if queue.state.messages else []
        if (missing := log.state.messages - events.state.messages) > 0:
            pending.append(f"{missing} events to publish")
        consumers = await self._jetstream.consumers_info(f"{self._domain}_EVENT")
        left = {
            each.name: (each.num_pending or 0) + (each.num_ack_pending or 0) for each in consumers
        }
        return pending + [f"{count} events for {name}" for name, count in left.items() if count]

    async def end(self) -> int:
        """The last position of the log."""
        return (await self._jetstream.stream_info(f"{self._domain}_LOG")).state.last_seq

    async def _all(self, stream: str) -> list[Msg]:
        count = (await self._jetstream.stream_info(stream)).state.messages
        if not count:
            return []
        config = ConsumerConfig(inactive_threshold=_INACTIVE, mem_storage=True)
        reader = await self._jetstream.pull_subscribe(">", stream=stream, config=config)
        found: list[Msg] = []
        while len(found) < count:
            for message in await reader.fetch(min(_PAGE, count - len(found)), timeout=10):
                await message.ack()
                found.append(message)
        await reader.unsubscribe()
        return found


def _message(message: Msg) -> Message:
    headers = dict(message.headers or {})
    return Message(message.metadata.sequence.stream, message.subject, headers, message.data)


def rows(database: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of the tables that the judge compares."""
    with closing(sqlite3.connect(database)) as connection:
        return {table: connection.execute(query).fetchall() for table, query in TABLES.items()}


def behind(database: Path, end: int) -> Iterator[str]:
    """The projections whose checkpoint is before the end of the log."""
    with closing(sqlite3.connect(database)) as connection:
        query = "SELECT name, position FROM eventstore_projection WHERE position < ?"
        for name, position in connection.execute(query, (end,)):
            yield f"projection {name} is at {position} of {end}"
