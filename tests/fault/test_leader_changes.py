"""Snapshots, audits and forgotten keys on three replicas whose leaders change and die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

import pytest

from eventstore.audit import Anchor, VerifySummary, verify
from eventstore.client.client import Client, connect
from eventstore.client.master_keys import MasterKeys, new_master_key
from eventstore.commands.loader import Loader
from eventstore.config import StreamSettings
from eventstore.errors import ClientError, RequestTimeout, SubjectForgotten, TopologyError
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.encryption import DataKey, DestroyedKey
from eventstore.messages.personal import ref_of
from eventstore.messages.subjects import Subjects
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.key_bucket import KeyBucket
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from tests.conftest import settings_for
from tests.integration.commanding import Added, Counter, counting
from tests.integration.customers import CustomerRegistered, CustomerSeen, shop
from tests.integration.ledger import Deposited, ledger
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]

ANN = CustomerRegistered(email="ann@example.org")
NOBODY = CustomerRegistered(email="[forgotten]")


@pytest.fixture
async def clients(cluster: list[EmbeddedServer], domain_name: str) -> AsyncIterator[list[Client]]:
    """A client for each server, with the same master key."""
    wrapping = MasterKeys.parse(new_master_key(), "here")
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                connect(settings_for(server.url, domain_name), key_wrapping=wrapping)
            )
            for server in cluster
        ]


async def declared(client: Client, subjects: Subjects, *names: str) -> None:
    """Declare some streams, as soon as the cluster has a leader."""
    specs = topology(subjects, StreamSettings(replicas=3))
    async with asyncio.timeout(40):
        while True:
            with suppress(ClientError, TopologyError):  # or a server has just come back
                await client.api("STREAM.NAMES", timeout=0.2)
                await declare(client, [spec for spec in specs if spec.name in names])
                return


async def leader_of(client: Client, stream: str) -> int:
    """The number of the server that leads the stream, as soon as there is one."""
    async with asyncio.timeout(20):
        while True:
            with suppress(ClientError):
                info = await client.api(f"STREAM.INFO.{stream}", timeout=0.5)
                if "leader" in info["cluster"]:
                    return int(info["cluster"]["leader"].removeprefix("n"))


async def change_leader(client: Client, stream: str) -> int:
    """Make another server lead the stream, and return when one does."""
    before = await leader_of(client, stream)
    await client.api(f"STREAM.LEADER.STEPDOWN.{stream}")
    async with asyncio.timeout(20):
        while (now := await leader_of(client, stream)) == before:
            pass
    return now


async def test_verify_and_an_anchor_hold_while_leaders_change(
    clients: list[Client], domain_name: str
) -> None:
    codec = ledger(domain_name)
    stream = codec.subjects.log_stream
    await declared(clients[0], codec.subjects, stream)
    async with EventStore(clients[0], codec) as store:
        for number in range(4):
            await store.append("account", f"a{number}", [Deposited()] * 500)
        before = VerifySummary()
        assert [each async for each in verify(clients[1], codec, summary=before)] == []
        anchor = Anchor.of(codec, before.fold, datetime.now(UTC))
        for client in clients:
            await change_leader(clients[0], stream)
            await store.append("account", "a1", [Deposited()] * 2)
            after = VerifySummary()
            found = [each async for each in verify(client, codec, anchor=anchor, summary=after)]
            assert found == []
        assert (before.events, after.events) == (2_000, 2_006)


async def found_by(bucket: KeyBucket) -> DataKey | DestroyedKey | None:
    """What a bucket has of ann's key, from the first leader that answers in time."""
    async with asyncio.timeout(40):
        while True:
            with suppress(RequestTimeout):
                return await bucket.find(ref_of("ann"))


async def test_a_forgotten_key_stays_forgotten_while_leaders_change(
    clients: list[Client], domain_name: str
) -> None:
    codec = shop.renamed(domain_name).codec
    bucket = f"KV_{codec.subjects.key_bucket}"
    await declared(clients[0], codec.subjects, codec.subjects.log_stream, bucket)
    keys = [KeyBucket(client, codec.subjects) for client in clients]
    async with EventStore(clients[0], codec) as store:
        await store.append("customer", "ann", [ANN, CustomerSeen()])
        key = await keys[0].find(ref_of("ann"))
        assert isinstance(key, DataKey)
        assert await keys[1].find(ref_of("ann")) == key
        forgotten = await store.keyring.forget("ann")
    assert isinstance(forgotten, DestroyedKey)
    led = {await leader_of(clients[0], bucket)}
    while len(led) < len(clients):
        led.add(await change_leader(clients[0], bucket))
        assert [await found_by(each) for each in keys] == [forgotten] * 3
        with pytest.raises(ClientError, match="10037"):  # the bytes are gone from this leader too
            await clients[0].api(f"STREAM.MSG.GET.{bucket}", {"seq": 1})
        async with EventStore(clients[1], codec) as fresh:
            found = [each.data async for each in fresh.read("customer", "ann", leader=True)]
            assert found == [NOBODY, CustomerSeen()]
            with pytest.raises(SubjectForgotten):
                await fresh.append("customer", "ann", ANN)


async def test_a_load_from_a_snapshot_is_correct_after_its_leader_died(
    cluster: list[EmbeddedServer],
    clients: list[Client],
    domain_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    domain = counting(domain_name, snapshot_every=10)
    decider, subjects = domain.decider("counter"), domain.codec.subjects
    bucket = f"KV_{subjects.snapshot_bucket}"
    await declared(clients[0], subjects, subjects.log_stream, bucket)
    dead = await leader_of(clients[0], bucket)
    client = clients[dead - 1]
    async with (
        EventStore(client, domain.codec) as store,
        Snapshots(client, store, timeout=5.0) as snapshots,
    ):
        loader = Loader(store, snapshots)
        await store.append("counter", "c1", [Added(amount=1)] * 30)
        await loader.load(decider, "c1", leader=True)
        await snapshots.drain(10)
        cluster[dead].kill()
        try:
            head = (await store.append("counter", "c1", [Added(amount=1)] * 5)).head
            await leader_of(client, bucket)
            loaded = await loader.load(decider, "c1", leader=True)
            again = await store.append("counter", "c1", [Added(amount=1)] * 10, expected=head)
            after = await loader.load(decider, "c1", leader=True)
            await snapshots.drain(10)
            snapshot = await snapshots.load(decider, "c1")
        finally:
            await cluster[dead].start()
    assert (loaded.state, loaded.head, loaded.snapshot) == (Counter(35), head, 30)
    assert (after.state, after.head) == (Counter(45), again.head)
    assert snapshot is not None  # a replica that lags may have the one before
    assert (snapshot.state, snapshot.head.version) in [(Counter(30), 30), (Counter(45), 45)]
    assert "ignored" not in caplog.text
