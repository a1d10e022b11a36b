"""A small domain for the tests of the store, and what they all do with it."""

from __future__ import annotations

from typing import Any

from nats.js import JetStreamContext

from eventstore.client.client import Client
from eventstore.config import StreamSettings
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity
from eventstore.messages.events import NewEvent, RecordedEvent
from eventstore.messages.types import Event
from eventstore.store.store import EventStore

FAST = StreamSettings(duplicate_window_ms=100)


class Opened(Event, subject="account.opened"):
    owner: str = "ann"


class Deposited(Event, subject="account.deposited"):
    amount: int = 1
    note: str = ""


class Noted(Event, subject="journal.noted"):
    text: str = ""


def ledger(domain: str) -> Codec:
    return Codec(domain, (), (Opened, Deposited, Noted))


async def declare_log(client: Client, codec: Codec, settings: StreamSettings | None = None) -> None:
    """Only the log: the other streams would cost each test time."""
    await declare(client, topology(codec.subjects, settings or StreamSettings())[:1])


def fixed(data: Event | None = None) -> NewEvent:
    """An event with an identity of its own, so that a repeat can be recognised."""
    return NewEvent(data=data or Deposited(), identity=Identity.root())


async def read(store: EventStore, aggregate_id: str, **options: Any) -> list[RecordedEvent]:
    return [event async for event in store.read("account", aggregate_id, **options)]


async def read_all(store: EventStore, **options: Any) -> list[RecordedEvent]:
    return [event async for event in store.read_all(**options)]


def jetstream(client: Client) -> JetStreamContext:
    """The plain client's view, which knows nothing of ours."""
    return client.nats.jetstream()


async def last_position(client: Client, codec: Codec) -> int:
    answer = await client.api(f"STREAM.INFO.{codec.subjects.log_stream}")
    position: int = answer["state"]["last_seq"]
    return position


async def until_forgotten(client: Client, codec: Codec) -> None:
    """Return when the server no longer recognises the ids sent so far; two probes are stored."""
    probe = Identity.root().id
    stream, subject = jetstream(client), codec.subjects.log("journal", "probe")
    stored = 0
    while stored < 2:
        ack = await stream.publish(subject, b"", headers={"Nats-Msg-Id": probe})
        stored += not ack.duplicate
