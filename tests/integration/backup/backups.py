"""Backups in tests: a whole domain, what a server has of it, and a small read model."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from eventstore.client.client import Client
from eventstore.config import StreamSettings
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.messages.subjects import Subjects
from eventstore.store.store import EventStore
from tests.integration.transferring import fill

Raw = dict[str, Any]


async def whole_domain(client: Client, store: EventStore, codec: Codec) -> None:
    """All streams of a domain, and something in those that have something to lose."""
    subjects = codec.subjects
    await declare(client, topology(subjects, StreamSettings()))
    await fill(client, store, codec, more=3)
    for number in range(5):
        headers = {"Nats-Msg-Id": f"command {number}", "X-Aggregate-ID": "a1"}
        await publish_acked(client, subjects.command("account", "open"), b"{}", headers)
        await publish_acked(client, subjects.event("account", "opened"), b"{}", {})
    outcomes = KeyValue(client, subjects.outcome_bucket)
    for number in range(3):
        await outcomes.put("c", str(number).encode())
    consumer = {
        "name": "reader",
        "durable_name": "reader",
        "ack_policy": "explicit",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": 4,
    }
    stream = subjects.event_stream
    body = {"stream_name": stream, "config": consumer}
    await client.api(f"CONSUMER.CREATE.{stream}.reader", body)


async def raw_streams(client: Client, subjects: Subjects) -> dict[str, Raw]:
    """Every stream of the domain with all its messages and consumers, as the server has them."""
    names = await client.api("STREAM.NAMES", {"subject": ">"})
    listed = [name for name in names["streams"] or () if subjects.domain.upper() in name]
    return {name: await _raw(client, name) for name in listed}


async def _raw(client: Client, stream: str) -> Raw:
    state = (await client.api(f"STREAM.INFO.{stream}"))["state"]
    messages: list[Any] = []
    sequence = state["first_seq"]
    while len(messages) < state["messages"]:
        body = {"seq": sequence, "next_by_subj": ">"}
        found = (await client.api(f"STREAM.MSG.GET.{stream}", body))["message"]
        messages.append(found)
        sequence = found["seq"] + 1
    listed = await client.api(f"CONSUMER.LIST.{stream}")
    consumers = {
        each["name"]: (each["num_pending"], each["delivered"]["stream_seq"])
        for each in listed["consumers"] or ()
    }
    return {"messages": messages, "last": state["last_seq"], "consumers": consumers}


async def delete_streams(client: Client, subjects: Subjects) -> None:
    for name in await raw_streams(client, subjects):
        await client.api(f"STREAM.DELETE.{name}")


def read_model(path: Path, rows: int = 1_000) -> Path:
    """A database with some rows."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE t (n INTEGER, text TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?)", ((n, "x" * 99) for n in range(rows)))
    return path


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT n, text FROM t ORDER BY n").fetchall()


def changed_manifest(directory: Path, **fields: Any) -> None:
    """Change fields of a manifest, and leave its checksum as it is."""
    path = directory / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
