"""The log's identity on a real server: it does not change while the log lasts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from eventstore import nix
from eventstore.client.client import Client, Msg, connect
from eventstore.errors import CorruptLog, OtherLog, StreamMissing
from eventstore.messages.codec import Codec
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from projections import nix_migrations, nix_projections
from projections.models import module
from tests.conftest import settings_for
from tests.integration.commanding import until
from tests.integration.ledger import declare_log
from tests.proxy import TcpProxy

BOUND = 20.0


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return nix.domain(domain_name).codec


async def test_it_outlives_a_restart_of_the_server(server: EmbeddedServer) -> None:
    codec = nix.domain().codec
    async with connect(settings_for(server.url)) as client, EventStore(client, codec) as store:
        with pytest.raises(StreamMissing):
            await store.identity()
        await declare_log(client, codec)
        before = await store.identity()
        assert before.endswith(f" {codec.subjects.log_stream}")

        server.kill()
        await server.restart()
        await client.wait_connected(BOUND)
        assert await store.identity() == before


async def test_a_log_that_was_deleted_and_recreated_is_another(
    store: EventStore, client: Client, codec: Codec, tmp_path: Path
) -> None:
    appended = await store.append("module", "m", nix.ModuleCreated(name="m", content="0"))
    async with Database(tmp_path / "read_model.sqlite", migrations=nix_migrations()) as database:
        await database.migrate()
        worker = ProjectionWorker(store, database, nix_projections())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await worker.wait(appended.position, BOUND)
            worker.stop()

        before = await store.identity()
        await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
        await declare_log(client, codec)
        await store.append("module", "n", [nix.ModuleCreated(name="n", content="0")] * 3)
        assert await store.identity() != before

        with pytest.raises(OtherLog, match="was built from another log"):
            await ProjectionWorker(store, database, nix_projections()).run()


async def replace_log(client: Client, store: EventStore) -> None:
    """Another log of the same name, and longer."""
    await client.api(f"STREAM.DELETE.{store.codec.subjects.log_stream}")
    await declare_log(client, store.codec)
    for number in range(5):
        await store.append("module", f"n{number}", nix.ModuleCreated(name="n", content="0"))


async def assert_untouched(database: Database, worker: ProjectionWorker, position: int) -> None:
    async with database.engine.connect() as connection:
        assert list(await connection.scalars(select(module.c.id))) == ["m"]
    assert worker.position == position


async def test_a_worker_whose_log_is_replaced_stops_and_leaves_the_rows(
    store: EventStore,
    client: Client,
    codec: Codec,
    nats_server: EmbeddedServer,
    sqlite_read_model: Path,
) -> None:
    appended = await store.append("module", "m", nix.ModuleCreated(name="m", content="0"))
    async with (
        TcpProxy(nats_server) as proxy,
        connect(settings_for(proxy.url, codec.domain)) as cut,
        EventStore(cut, codec) as own,
        Database(sqlite_read_model) as database,
        asyncio.timeout(BOUND),
    ):
        worker = ProjectionWorker(own, database, nix_projections())
        running = asyncio.create_task(worker.run())
        await worker.wait(appended.position, BOUND)
        with proxy.refusing():
            proxy.cut()
            await replace_log(client, store)
        with pytest.raises(CorruptLog, match="the log was replaced: position 1 is one of"):
            await running
        await assert_untouched(database, worker, appended.position)


async def test_a_worker_whose_log_is_replaced_while_it_is_paused_stops_before_it_reads_on(
    store: EventStore, client: Client, codec: Codec, sqlite_read_model: Path
) -> None:
    async def nobody_reads() -> bool:
        return not (await client.api(f"CONSUMER.NAMES.{codec.subjects.log_stream}"))["consumers"]

    appended = await store.append("module", "m", nix.ModuleCreated(name="m", content="0"))
    async with Database(sqlite_read_model) as database, asyncio.timeout(BOUND):
        worker = ProjectionWorker(store, database, nix_projections())
        running = asyncio.create_task(worker.run())
        await worker.wait(appended.position, BOUND)
        worker.pause(worker.progress.keys())
        await until(nobody_reads)
        await replace_log(client, store)
        worker.pause([])
        with pytest.raises(CorruptLog, match="the log was replaced: position 1 is one of"):
            await running
        await assert_untouched(database, worker, appended.position)


async def test_a_log_that_was_restored_from_a_backup_is_known_by_its_marks(
    store: EventStore, client: Client, codec: Codec
) -> None:
    """Rows may be made of events that came after the backup, whose positions are free again."""
    await store.append("module", "m", nix.ModuleCreated(name="m", content="0"))
    stream = codec.subjects.log_stream
    snapshot, chunks = await back_up(client, stream)
    await store.append("module", "m", nix.ModuleUpdated(content="1"))
    marks = [await store.mark_at(position) for position in (1, 2)]

    await client.api(f"STREAM.DELETE.{stream}")
    await restore(client, stream, snapshot, chunks)

    assert [await store.mark_at(position) for position in (1, 2)] == [marks[0], None]
    assert [event.aggregate_id async for event in store.read_all()] == ["m"]


async def back_up(client: Client, stream: str) -> tuple[dict[str, object], list[bytes]]:
    """What `nats stream backup` does."""
    chunks: list[bytes] = []
    whole = asyncio.Event()

    async def take(message: Msg) -> None:
        if not message.data:
            whole.set()
            return
        chunks.append(message.data)
        await client.nats.publish(message.reply, b"")

    inbox = client.nats.new_inbox()
    subscription = await client.subscribe(inbox, take)
    snapshot = await client.api(f"STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox})
    await asyncio.wait_for(whole.wait(), BOUND)
    await subscription.unsubscribe()
    return snapshot, chunks


async def restore(
    client: Client, stream: str, snapshot: dict[str, object], chunks: list[bytes]
) -> None:
    """What `nats stream restore` does."""
    described = {"config": snapshot["config"], "state": snapshot["state"]}
    answer = await client.api(f"STREAM.RESTORE.{stream}", described)
    for chunk in [*chunks, b""]:
        await client.nats.request(answer["deliver_subject"], chunk, timeout=BOUND)
