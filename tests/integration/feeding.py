"""The ledger's log and its public events, and what the tests of the feed all do with them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventstore.client.client import Client, Msg
from eventstore.config import StreamSettings
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import POSITION, position_of
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited, read_all


async def declare_feed(
    client: Client, codec: Codec, settings: StreamSettings | None = None
) -> None:
    """The streams that the feed and its subscribers need."""
    subjects = codec.subjects
    needed = {
        subjects.log_stream,
        subjects.event_stream,
        subjects.parked_stream,
        subjects.action_stream,
        f"KV_{subjects.config_bucket}",
    }
    specs = topology(subjects, settings or StreamSettings())
    await declare(client, [spec for spec in specs if spec.name in needed])


async def deposit(store: EventStore, count: int, aggregate_id: str = "a1") -> int:
    """Append so many events at once; the position of the last."""
    amounts = [Deposited(amount=number + 1) for number in range(count)]
    return (await store.append("account", aggregate_id, amounts)).position


async def public(client: Client, codec: Codec) -> list[StoredMessage]:
    """All that the event stream holds."""
    reader = DirectReader(client, codec.subjects.event_stream)
    return [each async for each in reader.messages(codec.subjects.filter("event"))]


async def last_sequence(client: Client, codec: Codec) -> int:
    info = await client.api(f"STREAM.INFO.{codec.subjects.event_stream}")
    last: int = info["state"]["last_seq"]
    return last


async def purge(client: Client, codec: Codec) -> None:
    """Empty the event stream, as its age limit does after some days."""
    await client.api(f"STREAM.PURGE.{codec.subjects.event_stream}")


async def assert_fed(client: Client, store: EventStore, after: int = 0) -> None:
    """The event stream has each event of the log once, in order, unchanged."""
    log = await read_all(store, after=after)
    assert_same(log, [each for each in await public(client, store.codec) if is_ours(each)])


def is_ours(message: StoredMessage) -> bool:
    return POSITION in message.headers


def assert_same(log: Sequence[RecordedEvent], stored: Sequence[StoredMessage]) -> None:
    found = [position_of(each.headers) for each in stored]
    expected = [event.position for event in log]
    assert found == expected, f"published {found}, recorded {expected}"
    for event, message in zip(log, stored, strict=True):
        assert message.payload == event.payload
        own = {name: text for name, text in event.headers.items() if not is_servers(name)}
        assert own.items() <= message.headers.items()


def is_servers(header: str) -> bool:
    return header.startswith("Nats-") and header != "Nats-Msg-Id"


class Watcher:
    """Sees what is put into the event stream, from now on; an async context manager."""

    def __init__(self, client: Client, codec: Codec) -> None:
        self.seen: list[int] = []
        self._client = client
        self._subject = codec.subjects.filter("event")
        self._more = asyncio.Event()

    async def __aenter__(self) -> Watcher:
        self._subscription = await self._client.subscribe(self._subject, self._receive)
        await self._client.flush()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscription.unsubscribe()

    async def _receive(self, message: Msg) -> None:
        self.seen.append(position_of(message.headers or {}) or 0)
        self._more.set()

    async def until(self, count: int) -> None:
        """Return when so many messages were sent; those refused by the stream count too."""
        while len(self.seen) < count:
            self._more.clear()
            await self._more.wait()


async def until_fed(client: Client, codec: Codec, position: int) -> None:
    """Return when the event stream has the event at this position of the log."""
    stream = client.nats.jetstream()
    subscription = await stream.subscribe(
        codec.subjects.filter("event"), stream=codec.subjects.event_stream, ordered_consumer=True
    )
    try:
        while position_of((await subscription.next_msg(timeout=30)).headers or {}) != position:
            pass
    finally:
        await subscription.unsubscribe()
