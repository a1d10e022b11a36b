"""Snapshots on a real server: they save reading, and a wrong one is ignored."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter as Counts
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
import pytest
from nats.js.kv import KeyValue

from eventstore.client.client import Client, connect
from eventstore.commands import StateCache
from eventstore.commands.loader import Loader
from eventstore.commands.state_cache import CachedState
from eventstore.config import StreamSettings
from eventstore.decider.decider import Decider
from eventstore.errors import StreamMissing
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.envelope import new_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.subjects import AggregateId
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import NOTHING, Head
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.telemetry import CounterName, Telemetry
from tests.conftest import StartServer, settings_for
from tests.integration import customers
from tests.integration.commanding import Add, AddEach, Added, Counter, Line, counting, opened
from tests.proxy import TcpProxy

EVERY = 3


class SnapshotCounts(Telemetry):
    """What became of the snapshots that were asked for and made."""

    def __init__(self) -> None:
        self.snapshots: Counts[str] = Counts()

    def count(self, name: CounterName, value: int = 1, **labels: str) -> None:
        if name == "snapshots":
            self.snapshots[labels["result"]] += value

    def taken(self) -> dict[str, int]:
        """What was counted since the last time."""
        counted, self.snapshots = dict(self.snapshots), Counts()
        return counted


class ReadingStore(EventStore):
    """A store that counts the events that it reads."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.events_read = 0

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def read_stored(
        self,
        aggregate: str,
        aggregate_id: AggregateId,
        *,
        after: Head = NOTHING,
        leader: bool = False,
    ) -> AsyncGenerator[tuple[StoredMessage, list[RecordedEvent]], None]:
        reading = super().read_stored(aggregate, aggregate_id, after=after, leader=leader)
        async for stored in reading:
            self.events_read += 1
            yield stored


class Bench:
    """The tests' set-up: a line, its snapshots, and fresh loads with their cost."""

    def __init__(self, line: Line, store: ReadingStore, snapshots: Snapshots) -> None:
        self.line = line
        self.store = store
        self.snapshots = snapshots
        self.decider: Decider[Counter] = line.domain.decider("counter")
        self.format = SnapshotFormat(self.decider)
        self.counted = SnapshotCounts()

    async def bucket(self) -> KeyValue:
        return await self.line.jetstream.key_value(self.line.subjects.snapshot_bucket)

    async def append(self, count: int, aggregate_id: str = "c1") -> None:
        await self.store.append(
            "counter", aggregate_id, [Added(amount=n) for n in range(1, count + 1)]
        )

    async def load(self, aggregate_id: str = "c1") -> tuple[CachedState, int]:
        """An aggregate loaded afresh, and how many events were read; writes have ended."""
        before = self.store.events_read
        cached = await Loader(self.store, self.snapshots).load(self.decider, aggregate_id)
        await self.snapshots.drain(5)
        return cached, self.store.events_read - before

    async def snapshot(self, aggregate_id: str = "c1") -> Snapshot:
        entry = await (await self.bucket()).get(f"counter.{aggregate_id}")
        return self.format.decode(aggregate_id, entry.value or b"")

    async def put(self, data: bytes, aggregate_id: str = "c1") -> None:
        await (await self.bucket()).put(f"counter.{aggregate_id}", data)


@asynccontextmanager
async def benched(line: Line, **options: Any) -> AsyncIterator[Bench]:
    telemetry = SnapshotCounts()
    async with (
        ReadingStore(line.client, line.domain.codec) as store,
        Snapshots(line.client, store, telemetry=telemetry, **options) as snapshots,
    ):
        bench = Bench(line, store, snapshots)
        bench.counted = telemetry
        yield bench


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name, snapshot_every=EVERY)) as line:
        yield line


@pytest.fixture
async def bench(line: Line) -> AsyncIterator[Bench]:
    async with benched(line) as bench:
        yield bench


def total(cached: CachedState) -> int:
    assert isinstance(cached.state, Counter)
    return cached.state.total


async def test_a_load_reads_only_the_events_after_the_snapshot(bench: Bench) -> None:
    await bench.append(EVERY - 1)
    assert (await bench.load())[1] == 2
    assert bench.counted.taken() == {"missing": 1}

    await bench.append(8)
    cached, read = await bench.load()
    assert (total(cached), cached.head.version, read) == (39, 10, 10)
    assert bench.counted.taken() == {"missing": 1, "written": 1}

    cached, read = await bench.load()
    assert (total(cached), cached.head.version, read) == (39, 10, 0)
    await bench.append(2)
    cached, read = await bench.load()
    assert (total(cached), cached.head.version, read) == (42, 12, 2)
    assert bench.counted.taken() == {"used": 2}

    await bench.append(1)
    assert (await bench.load())[1] == 3
    assert bench.counted.taken() == {"used": 1, "written": 1}
    assert (await bench.snapshot()).head.version == 13


async def test_a_worker_takes_a_snapshot_each_so_many_events(bench: Bench) -> None:
    async with bench.line.working(snapshots=bench.snapshots):
        for number in range(1, 8):
            await bench.line.commands.execute(Add(amount=number), "c1")
            await bench.snapshots.drain(5)
            if number >= EVERY:
                assert (await bench.snapshot()).head.version == number // EVERY * EVERY
        await bench.line.commands.execute(AddEach(amounts=[1] * 10), "c1")
        await bench.snapshots.drain(5)
    taken = await bench.snapshot()
    assert (taken.state, taken.head.version) == (Counter(38), 17)
    assert bench.counted.taken() == {"written": 3}  # none is looked for without events


def _changed(place: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


BAD: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda _: b"\xff garbage",
    "checksum": _changed(30),
    "body": _changed(-20),
    "truncated": lambda data: data[:-1],
    "format": lambda data: data.replace(b"snapshot 1", b"snapshot 9"),
}


@pytest.mark.parametrize("how", BAD)
async def test_a_snapshot_that_is_damaged_is_ignored_and_replaced(
    bench: Bench, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.append(5)
    await bench.load()
    await bench.put(BAD[how](bench.format.encode("c1", await bench.snapshot())))
    await assert_ignored_and_replaced(bench)
    assert len(caplog.records) == (how != "format")  # which any deployment may lead to


async def assert_ignored_and_replaced(bench: Bench, result: str = "ignored") -> None:
    """The next load equals the full fold, and the one after it begins at a good snapshot."""
    bench.counted.taken()
    cached, read = await bench.load()
    assert (total(cached), cached.head.version, read) == (15, 5, 5)
    assert bench.counted.taken() == {result: 1, "written": 1}
    assert (await bench.load())[1] == 0
    assert bench.counted.taken() == {"used": 1}


async def forged(bench: Bench, head: Head, state: object = None, version: int = 1) -> bytes:
    """A snapshot that is well formed and wrong."""
    decider: Decider[Any] = Decider("counter", initial=Counter, state_version=version)
    wrong = Snapshot(Counter(1_000) if state is None else state, head, CommandFilter.empty())
    return SnapshotFormat(decider).encode("c1", wrong)


async def real_head(bench: Bench, aggregate_id: str = "c1") -> Head:
    return await bench.store.head("counter", aggregate_id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": 10**9},
        {"position": 2**63},
        {"version": 4},
        {"version": 10**9},
        {"chain": "0" * 64},
        {"event_id": new_id()[:-1] + "x"},
    ],
    ids=["ahead", "far ahead", "behind", "other version", "chain", "event"],
)
async def test_a_snapshot_that_does_not_match_the_log_is_ignored_and_replaced(
    bench: Bench, wrong: dict[str, Any]
) -> None:
    await bench.append(5)
    await bench.append(5, "c2")
    await bench.put(await forged(bench, msgspec.structs.replace(await real_head(bench), **wrong)))
    await assert_ignored_and_replaced(bench)


async def test_a_snapshot_at_another_aggregates_event_is_ignored(bench: Bench) -> None:
    await bench.append(5)
    await bench.append(5, "c2")
    await bench.put(await forged(bench, await real_head(bench, "c2")))
    await assert_ignored_and_replaced(bench)


async def test_the_snapshot_of_another_aggregate_under_this_key_is_ignored(bench: Bench) -> None:
    await bench.append(5)
    await bench.append(7, "c2")
    await bench.load("c2")
    await bench.put(bench.format.encode("c2", await bench.snapshot("c2")))
    await assert_ignored_and_replaced(bench)


async def test_a_snapshot_of_another_state_version_is_ignored_and_replaced(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.append(5)
    await bench.put(await forged(bench, await real_head(bench), version=2))
    await assert_ignored_and_replaced(bench)
    assert caplog.records == []


class Renamed(msgspec.Struct, frozen=True):
    sum: int = 0


async def test_a_snapshot_of_a_state_with_other_fields_is_ignored_and_replaced(
    bench: Bench,
) -> None:
    await bench.append(5)
    other: Decider[Any] = Decider("counter", initial=Renamed)
    state = Snapshot(Renamed(7), await real_head(bench), CommandFilter.empty())
    await bench.put(SnapshotFormat(other).encode("c1", state))
    await assert_ignored_and_replaced(bench)


async def test_a_deleted_snapshot_is_written_again(bench: Bench) -> None:
    await bench.append(5)
    await bench.load()
    await (await bench.bucket()).delete("counter.c1")
    await assert_ignored_and_replaced(bench, "missing")
    await (await bench.bucket()).purge("counter.c1")
    await assert_ignored_and_replaced(bench, "missing")


@pytest.mark.parametrize("before", [6, 3], ids=["ahead of the log", "other event there"])
async def test_snapshots_of_a_recreated_log_are_ignored(bench: Bench, before: int) -> None:
    await bench.append(2, "c0")
    await bench.append(before)
    await bench.load()
    await bench.line.client.api(f"STREAM.DELETE.{bench.line.subjects.log_stream}")
    specs = topology(bench.line.subjects, StreamSettings())
    await declare(bench.line.client, specs, new_log=True)
    await bench.append(5)
    await assert_ignored_and_replaced(bench)


async def test_an_older_snapshot_never_replaces_a_newer_one(bench: Bench) -> None:
    await bench.append(3)
    old, _ = await bench.load()
    await bench.append(3)
    await bench.load()
    bench.counted.taken()
    snapshot = Snapshot(old.state, old.head, CommandFilter.empty())
    assert bench.snapshots.save_soon(bench.decider, "c1", snapshot)
    await bench.snapshots.drain(5)
    assert (await bench.snapshot()).head.version == 6
    assert bench.counted.taken() == {"outdated": 1}


async def test_of_two_concurrent_writers_one_yields(bench: Bench) -> None:
    await bench.append(3)
    snapshot = Snapshot(Counter(6), await real_head(bench), CommandFilter.empty())
    async with benched(bench.line) as other:
        for each in (bench, other):
            assert each.snapshots.save_soon(bench.decider, "c1", snapshot)
        for each in (bench, other):
            await each.snapshots.drain(5)
        counted = other.counted.snapshots + bench.counted.snapshots
    assert counted == {"written": 1, "outdated": 1}


async def test_a_snapshot_that_is_too_large_is_logged_once(
    start_server: StartServer, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server(max_payload=1_100)  # less than the filter alone
    async with (
        connect(settings_for(server.url)) as client,
        opened(client, counting(domain_name, snapshot_every=1)) as line,
        benched(line) as bench,
    ):
        for _ in range(3):
            await bench.append(1)
            await bench.load()
        assert client.is_connected
        assert bench.counted.taken() == {"missing": 3, "dropped": 3}
    (warning,) = caplog.records
    assert "c1 is not written: the headers and payload of the snapshot" in warning.getMessage()


async def test_without_the_bucket_commands_are_carried_out_all_the_same(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    stream = f"KV_{bench.line.subjects.snapshot_bucket}"
    await bench.line.client.api(f"STREAM.DELETE.{stream}")
    async with bench.line.working(states=StateCache(0), snapshots=bench.snapshots):
        for number in range(5):
            outcome = await bench.line.commands.execute(Add(), "c1")
            assert (outcome.status, outcome.version) == ("success", number + 1)
    await bench.snapshots.drain(5)
    assert set(bench.counted.taken()) == {"unavailable", "dropped"}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(stream in message for message in messages)


async def test_a_bucket_that_does_not_answer_delays_one_load_and_then_no_more(
    bench: Bench,
) -> None:
    await bench.append(5)
    async with (
        TcpProxy(bench.line.client) as proxy,
        connect(settings_for(proxy.url)) as client,
        Snapshots(client, bench.store, timeout=1.0, telemetry=bench.counted) as slow,
    ):
        proxy.hold()
        began = asyncio.get_running_loop().time()
        for _ in range(10):
            cached = await Loader(bench.store, slow).load(bench.decider, "c1")
            assert total(cached) == 15
        assert asyncio.get_running_loop().time() - began < 9  # and not ten timeouts
    assert bench.counted.taken()["unavailable"] == 10


async def test_writes_in_progress_are_finished_on_exit(line: Line) -> None:
    async with benched(line) as bench:
        await bench.append(5)
        await Loader(bench.store, bench.snapshots).load(bench.decider, "c1")
    assert (await bench.snapshot()).head.version == 5
    assert bench.counted.taken() == {"missing": 1, "written": 1}


async def test_concurrent_writes_are_bounded(bench: Bench) -> None:
    await bench.append(1)
    snapshot = Snapshot(Counter(1), await real_head(bench), CommandFilter.empty())
    begun = [bench.snapshots.save_soon(bench.decider, f"c{n}", snapshot) for n in range(20)]
    assert begun == [True] * 16 + [False] * 4
    await bench.snapshots.drain(5)
    assert bench.snapshots.save_soon(bench.decider, "c99", snapshot)


async def test_a_state_that_fails_on_comparison_is_harmless(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Mean(Counter, frozen=True):
        def __eq__(self, other: object) -> bool:
            raise OSError("mean")

    snapshot = Snapshot(Mean(), Head(1, 1, "c", "e"), CommandFilter.empty())
    assert bench.snapshots.save_soon(bench.decider, "c1", snapshot)
    with caplog.at_level(logging.WARNING):
        await bench.snapshots.drain(5)
    assert bench.counted.taken() == {"dropped": 1}
    assert "mean" in caplog.text


async def test_the_store_checks_whether_it_contains_a_head(bench: Bench) -> None:
    await bench.append(3)
    await bench.append(3, "c2")
    head = await real_head(bench)
    for leader in (False, True):

        async def holds(aggregate_id: str, head: Head, leader: bool = leader) -> bool:
            return await bench.store.holds("counter", aggregate_id, head, leader=leader)

        assert await holds("c1", head)
        assert not await holds("c2", head)
        for wrong in ({"position": 2}, {"position": 99}, {"version": 2}, {"chain": "1" * 64}):
            assert not await holds("c1", msgspec.structs.replace(head, **wrong))
    await bench.line.client.api(f"STREAM.DELETE.{bench.line.subjects.log_stream}")
    with pytest.raises(StreamMissing):
        await bench.store.holds("counter", "c1", head)


async def test_snapshots_that_are_not_taken_are_reported(
    client: Client, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop = customers.shop.renamed(domain_name)
    store = EventStore(client, shop.codec)
    asking = Decider("customer", initial=customers.Customer, snapshot_every=5)
    async with Snapshots(client, store) as snapshots:
        snapshots.report_disabled([*shop.deciders.values(), asking])
    (record,) = caplog.records
    assert record.message.startswith("snapshot_every of customer has no effect: its events have")
