"""The log, read through broken connections, lost consumers and dead servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from eventstore.client.client import Client, Message, connect
from eventstore.errors import ConnectionLost, CorruptLog, IncompleteBatch, JetStreamError
from eventstore.jetstream.consumer import Delivery, PullConsumer
from eventstore.jetstream.ordered_consumer import OrderedConsumer
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.server.embedded import EmbeddedServer
from eventstore.store import log
from eventstore.store.batches import BatchCheck
from eventstore.store.reader import EventReader, Page
from eventstore.store.store import EventStore
from tests.conftest import StartServer, settings_for
from tests.connection import SOON
from tests.integration.ledger import Deposited, Opened, declare_log, read_all
from tests.integration.store.test_read import forge
from tests.proxy import Direction, TcpProxy


@asynccontextmanager
async def history_behind(
    proxy: TcpProxy, codec: Codec, **options: Any
) -> AsyncIterator[EventReader]:
    async with connect(settings_for(proxy.url, codec.domain)) as client:
        yield EventReader(client, codec, **options)


async def _drain(pages: AsyncIterator[Page], into: list[int] | None = None) -> None:
    async for page in pages:
        (into if into is not None else []).extend(event.position for event in page.events)


async def _first_page(history: EventReader, *, live: bool = False) -> Page:
    async with aclosing(history.pages(live=live)) as pages:
        return await anext(pages)


async def test_ten_thousand_events_are_read_once_each_while_the_connection_breaks(
    store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    for _ in range(10):
        await store.append("account", "a1", [Deposited()] * 1_000)
    async with TcpProxy(nats_server) as proxy, history_behind(proxy, codec) as history:
        seen: list[int] = []
        cuts = 0
        async with aclosing(history.pages(max_events=100)) as pages:
            async for page in pages:
                seen.extend(event.position for event in page.events)
                if len(seen) // 1_500 > cuts:
                    cuts += 1
                    proxy.cut()
    assert cuts >= 5
    assert seen == list(range(1, 10_001))


async def test_a_live_reader_misses_nothing_while_the_connection_breaks(
    store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    total = 3_000
    async with TcpProxy(nats_server) as proxy, history_behind(proxy, codec) as history:
        seen: list[int] = []
        moved = asyncio.Condition()

        async def append() -> None:
            for _ in range(total // 10):
                await store.append("account", "a1", [Deposited()] * 10)

        async def disturb() -> None:
            for _ in range(8):
                target = len(seen) + total // 10
                async with moved:
                    while len(seen) < target:
                        await moved.wait()
                proxy.cut()

        async with asyncio.TaskGroup() as group, aclosing(history.pages(live=True)) as pages:
            group.create_task(append())
            group.create_task(disturb())
            async for page in pages:
                seen.extend(event.position for event in page.events)
                async with moved:
                    moved.notify()
                if len(seen) >= total:
                    break
    assert seen == list(range(1, total + 1))


async def test_events_that_were_lost_on_a_quiet_log_come_without_a_new_one(
    store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    async with (
        TcpProxy(nats_server) as proxy,
        history_behind(proxy, codec) as history,
        aclosing(history.pages(live=True)) as pages,
    ):
        await anext(pages)
        waiting = asyncio.ensure_future(anext(pages))
        await asyncio.sleep(0)
        proxy.hold()
        await store.append("account", "a1", [Opened(), Deposited()])
        await proxy.until_held(b"account.a1")  # delivered, as the server sees it
        proxy.cut()
        proxy.release()
        async with asyncio.timeout(SOON):
            seen = [event.position for event in (await waiting).events]
            while len(seen) < 2:
                seen.extend(event.position for event in (await anext(pages)).events)
    assert seen == [1, 2]


async def test_a_reader_that_has_caught_up_on_a_quiet_log_waits_as_long_as_it_takes(
    store: EventStore,
    client: Client,
    codec: Codec,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("eventstore.store.log._LAG_SECONDS", 0.05)
    await store.append("account", "a1", [Opened(), Deposited()])
    history = EventReader(client, codec, retry_timeout=0.05)
    async with aclosing(history.pages(live=True, max_events=1)) as pages:
        pending = [(await anext(pages)).pending, (await anext(pages)).pending]
        consumers = await _consumers(client, codec)
        waiting = asyncio.ensure_future(anext(pages))
        await asyncio.wait([waiting], timeout=0.4)  # several times what it would wait for a batch
        assert not waiting.done()
        assert await _consumers(client, codec) == consumers
        await store.append("account", "a1", Deposited())
        async with asyncio.timeout(SOON):
            page = await waiting
    assert pending == [1, 0]
    assert ([event.position for event in page.events], page.pending) == ([3], 0)
    assert caplog.records == []


async def _consumers(client: Client, codec: Codec) -> list[str]:
    names: list[str] = (await client.api(f"CONSUMER.NAMES.{codec.subjects.log_stream}"))[
        "consumers"
    ]
    return names


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize(
    ("pattern", "direction"),
    [
        (b"STREAM.INFO", "to_server"),
        (b"CONSUMER.CREATE", "to_server"),
        (b"consumer_create_response", "to_client"),
        (b"MSG.NEXT", "to_server"),
    ],
)
async def test_a_reader_whose_connection_breaks_while_it_begins_begins_again(
    store: EventStore,
    nats_server: EmbeddedServer,
    codec: Codec,
    pattern: bytes,
    direction: Direction,
    live: bool,
) -> None:
    await store.append("account", "a1", [Deposited()] * 3)
    async with TcpProxy(nats_server) as proxy, history_behind(proxy, codec) as history:
        cut = proxy.cut_after(pattern, direction, forward=False)
        positions: list[int] = []
        async with aclosing(history.pages(live=live)) as pages, asyncio.timeout(SOON):
            while len(positions) < 3:  # a page has what has come so far
                positions += [event.position for event in (await anext(pages)).events]
        assert cut.is_set()
        assert positions == [1, 2, 3]


async def test_events_lost_on_their_way_are_requested_again(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account", "a1", [Deposited()] * 10)
    receive = PullConsumer._receive
    received = 0

    def lossy(pull: PullConsumer, message: Message) -> None:
        nonlocal received
        received += 1
        if received not in (1, 6):
            receive(pull, message)

    monkeypatch.setattr(PullConsumer, "_receive", lossy)
    assert [event.position for event in await read_all(store)] == list(range(1, 11))


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of ten messages have arrived when some are taken, and two are handled at a time."""
    take = OrderedConsumer.take

    async def take_ten(
        consumer: OrderedConsumer, max_messages: int
    ) -> list[tuple[Message, Delivery]]:
        taken: list[tuple[Message, Delivery]] = []
        while len(taken) < 10:
            taken += await take(consumer, max_messages - len(taken))
        return taken

    monkeypatch.setattr(OrderedConsumer, "take", take_ten)
    monkeypatch.setattr(log, "_MAX_PART", 2)


@pytest.mark.usefixtures("whole")
async def test_what_has_arrived_together_is_one_page(store: EventStore) -> None:
    await store.append("account", "a1", [Deposited()] * 10)
    pages = [page async for page in store.pages()]
    assert [[event.position for event in page.events] for page in pages] == [list(range(1, 11))]
    assert [(page.position, page.pending) for page in pages] == [(10, 0)]


@pytest.mark.usefixtures("whole")
async def test_a_stored_page_says_whether_the_next_one_has_arrived(
    client: Client, store: EventStore, codec: Codec
) -> None:
    await store.append("account", "a1", [Deposited()])
    for _ in range(3):
        await store.append("account", "a1", [Deposited()] * 3)
    stream = log.StoredLog(client, codec.subjects.log_stream)
    pages = [page async for page in stream.pages()]
    assert [len(page.messages) for page in pages] == [2] * 5
    assert [page.has_next for page in pages] == [True] * 4 + [False]
    # The first complete batch from position 5 on ends at 7.
    pages = [page async for page in stream.pages(until=5)]
    assert [(page.position, page.has_next) for page in pages] == [
        (2, True),
        (4, True),
        (6, True),
        (7, False),
    ]


Disturb = Callable[[Client, Codec, EmbeddedServer], Awaitable[None]]


async def _delete_consumers(client: Client, codec: Codec, server: EmbeddedServer) -> None:
    stream = codec.subjects.log_stream
    names = (await client.api(f"CONSUMER.NAMES.{stream}"))["consumers"]
    assert names
    for name in names:
        await client.api(f"CONSUMER.DELETE.{stream}.{name}")


async def _restart(client: Client, codec: Codec, server: EmbeddedServer) -> None:
    await server.restart()


async def _crash(client: Client, codec: Codec, server: EmbeddedServer) -> None:
    server.kill()
    await server.start()


@pytest.mark.parametrize("disturb", [_delete_consumers, _restart, _crash])
async def test_a_live_reader_goes_on_if_it_was(
    server: EmbeddedServer, codec: Codec, disturb: Disturb
) -> None:
    async with connect(settings_for(server.url, codec.domain)) as client:
        await declare_log(client, codec)
        async with EventStore(client, codec) as store:
            seen: list[RecordedEvent] = []

            async def follow(total: int) -> None:
                while len(seen) < total:
                    seen.append(await anext(events))

            async with aclosing(store.read_all(live=True)) as events, asyncio.timeout(20):
                await store.append("account", "a1", [Deposited()] * 10)
                await follow(10)
                for number in range(1, 4):
                    await disturb(client, codec, server)
                    await client.wait_connected(5)
                    await store.append("account", "a1", [Deposited()] * 10)
                    await follow(10 + 10 * number)
    assert [event.position for event in seen] == list(range(1, 41))


async def test_a_reader_that_is_not_live_gives_up_after_its_patience(
    store: EventStore, nats_server: EmbeddedServer, codec: Codec
) -> None:
    await store.append("account", "a1", [Deposited()] * 100)
    async with (
        TcpProxy(nats_server) as proxy,
        history_behind(proxy, codec, retry_timeout=0.3) as history,
        aclosing(history.pages(max_events=5)) as pages,
    ):
        await anext(pages)
        with proxy.refusing():
            proxy.cut()
            async with asyncio.timeout(SOON):
                with pytest.raises(ConnectionLost):
                    await _drain(pages)


@pytest.mark.parametrize("live", [True, False])
async def test_a_reader_does_not_go_on_in_another_log(
    store: EventStore, client: Client, nats_server: EmbeddedServer, codec: Codec, live: bool
) -> None:
    await store.append("account", "old", [Deposited()] * 100)
    async with TcpProxy(nats_server) as proxy, history_behind(proxy, codec) as history:
        seen: list[int] = []
        async with aclosing(history.pages(live=live, max_events=5)) as pages:
            await anext(pages)
            with proxy.refusing():
                proxy.cut()
                await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
                await declare_log(client, codec)
                await store.append("account", "new", [Deposited()] * 200)
            async with asyncio.timeout(10):
                with pytest.raises(CorruptLog, match="the log was replaced: position") as error:
                    await _drain(pages, seen)
    assert seen == list(range(6, 6 + len(seen)))
    assert f"position {5 + len(seen)} is one of" in str(error.value)
    assert len(seen) < 95  # of the old log, as far as it was at hand


async def test_what_is_read_is_of_the_log_that_was_asked_for(
    store: EventStore, client: Client, codec: Codec
) -> None:
    before = await store.identity()
    await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
    await declare_log(client, codec)
    await store.append("account", "a1", [Deposited()] * 3)
    async with aclosing(store.pages(after=1, log=before)) as pages:
        with pytest.raises(CorruptLog, match=f"position 1 is one of {before}, and now"):
            await anext(pages)
    async with aclosing(store.pages(after=1, log=await store.identity())) as pages:
        assert [event.position for event in (await anext(pages)).events] == [2, 3]


async def test_readers_wait_while_the_server_says_that_the_log_is_not_available(
    start_server: StartServer, codec: Codec
) -> None:
    config = "accounts {{ APP {{ {}users: [{{user: app, password: app}}] }} }}\nno_auth_user: app"
    server = await start_server(extra_config=config.format("jetstream: enabled, "))
    place = {"data_directory": server.data_directory, "port": server.port}
    async with connect(settings_for(server.url, codec.domain)) as client:
        await declare_log(client, codec)
        async with EventStore(client, codec) as store:
            await store.append("account", "a1", Deposited())
        await server.stop()
        without = await start_server(**place, extra_config=config.format(""))
        await client.wait_connected(5)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(_first_page(EventReader(client, codec), live=live))
                for live in (True, False)
            ]
            with pytest.raises(JetStreamError, match="not enabled") as refused:
                await _first_page(EventReader(client, codec, retry_timeout=0.2))
            assert (refused.value.status, any(each.done() for each in waiting)) == (503, False)
            await without.stop()
            await start_server(**place, extra_config=config.format("jetstream: enabled, "))
            for each in waiting:
                assert [event.position for event in (await each).events] == [1]


@pytest.mark.parametrize("live", [True, False])
async def test_a_reader_ends_when_its_client_is_closed(
    store: EventStore, settings_domain: str, nats_server: EmbeddedServer, codec: Codec, live: bool
) -> None:
    await store.append("account", "a1", [Deposited()] * 100)
    client = await Client.open(settings_for(nats_server.url, settings_domain))
    async with aclosing(EventReader(client, codec).pages(live=live, max_events=5)) as pages:
        await anext(pages)
        await client.close()
        async with asyncio.timeout(SOON):
            with pytest.raises(ConnectionLost):
                await _drain(pages)


@pytest.fixture
def settings_domain(codec: Codec) -> str:
    return codec.domain


async def _damaged_log(client: Client, codec: Codec, store: EventStore, lost: int) -> None:
    """A batch at positions 2 to 4 of which one event was lost; only another stream allows it."""
    stream = codec.subjects.log_stream
    await client.api(f"STREAM.DELETE.{stream}")
    await client.api(
        f"STREAM.CREATE.{stream}",
        {
            "name": stream,
            "subjects": [codec.subjects.all_log],
            "allow_atomic": True,
            "allow_direct": True,
        },
    )
    await store.append("account", "a1", Opened())
    await store.append("account", "a2", [Deposited()] * 3)
    await client.api(f"STREAM.MSG.DELETE.{stream}", {"seq": lost})


@pytest.mark.parametrize(
    ("lost", "follow", "before"),
    [(2, False, [1]), (3, False, [1, 2]), (4, True, [1, 2, 3]), (4, False, [1, 2, 3])],
)
async def test_a_batch_that_is_incomplete_is_found(
    store: EventStore, client: Client, codec: Codec, lost: int, follow: bool, before: list[int]
) -> None:
    await _damaged_log(client, codec, store, lost)
    if follow:
        await store.append("account", "a1", Deposited())
    seen: list[int] = []
    with pytest.raises(IncompleteBatch):
        await _drain(EventReader(client, codec, retry_timeout=0.3).pages(), seen)
    assert seen == before


@pytest.mark.parametrize("live", [True, False])
async def test_the_end_is_known_though_the_last_event_was_removed(
    store: EventStore, client: Client, codec: Codec, live: bool
) -> None:
    await _damaged_log(client, codec, store, 1)
    await store.append("account", "a1", Deposited())
    await client.api(f"STREAM.MSG.DELETE.{codec.subjects.log_stream}", {"seq": 5})
    seen: list[int] = []
    async with (
        aclosing(EventReader(client, codec).pages(live=live)) as pages,
        asyncio.timeout(SOON),
    ):
        async for page in pages:
            seen.extend(event.position for event in page.events)
            if page.pending == 0:
                break
    assert seen == [2, 3, 4]


async def test_reading_may_begin_in_the_middle_of_a_batch(store: EventStore) -> None:
    await store.append("account", "a1", [Deposited()] * 5)
    await store.append("account", "a2", [Deposited()] * 2)
    assert [event.position for event in await read_all(store, after=2)] == [3, 4, 5, 6, 7]


async def test_a_reader_does_not_end_in_the_middle_of_a_batch(
    store: EventStore, client: Client, codec: Codec
) -> None:
    stop = asyncio.Event()

    async def append() -> None:
        while not stop.is_set():
            await store.append("account", "a1", [Deposited()] * 200)

    async with asyncio.TaskGroup() as group:
        group.create_task(append())
        after = 0
        for _ in range(15):
            events = await read_all(store, after=after)
            if events:
                assert "Nats-Batch-Commit" in events[-1].headers
                after = events[-1].position
        stop.set()


def batch(name: str, sequence: object, *, commit: bool = False) -> dict[str, str]:
    headers = {"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(sequence)}
    return {**headers, "Nats-Batch-Commit": "1"} if commit else headers


WHOLE: list[list[dict[str, str]]] = [
    [{}, {}],
    [batch("b", 1), batch("b", 2), batch("b", 3, commit=True), {}],
    [batch("b", 1, commit=True), batch("c", 1), batch("c", 2, commit=True)],
    [batch("b", 7), batch("b", 8, commit=True), batch("c", 1, commit=True)],
    [batch("b", 7, commit=True), {}],
]
BROKEN: list[list[dict[str, str]]] = [
    [batch("b", 1), {}],
    [batch("b", 1), batch("c", 1)],
    [batch("b", 1), batch("b", 3, commit=True)],
    [batch("b", 1), batch("b", 1)],
    [{}, batch("b", 2, commit=True)],
    [{}, batch("b", "two")],
    [{}, {"Nats-Batch-Id": "b"}],
    [batch("b", 1), batch("b", "²")],
]


@pytest.mark.parametrize("headers", WHOLE)
def test_complete_batches_pass(headers: list[dict[str, str]]) -> None:
    check = BatchCheck()
    for position, each in enumerate(headers, start=1):
        check.see(each, position)
    assert not check.is_open


@pytest.mark.parametrize("headers", BROKEN)
def test_a_broken_batch_is_named_at_the_position_if_it_breaks(
    headers: list[dict[str, str]],
) -> None:
    check = BatchCheck()
    check.see(headers[0], 1)
    with pytest.raises(IncompleteBatch, match="position 2"):
        check.see(headers[1], 2)


async def test_live_readers_that_have_caught_up_share_a_consumer(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "a1", [Deposited()] * 10)
    log = await store.identity()

    async def follow(pages: AsyncIterator[Page], until: int) -> list[int]:
        seen: list[int] = []
        async with asyncio.timeout(20):
            while not seen or seen[-1] < until:
                seen += [event.position for event in (await anext(pages)).events]
        return seen

    async with (
        aclosing(store.pages(live=True, shared=True, unread=True, log=log)) as one,
        aclosing(store.pages(live=True, shared=True, unread=True)) as two,
        aclosing(store.pages(live=True, unread=True)) as other,
    ):
        for each in (one, two, other):
            assert await follow(each, 10) == list(range(1, 11))
        for end in (11, 12):
            await store.append("account", "a1", Deposited())
            for each in (one, two, other):
                assert await follow(each, end) == [end]
        assert len(await _consumers(client, codec)) == 2

        for name in await _consumers(client, codec):
            await client.api(f"CONSUMER.DELETE.{codec.subjects.log_stream}.{name}")
        await store.append("account", "a1", Deposited())
        for each in (one, two, other):
            assert await follow(each, 13) == [13]
        assert len(await _consumers(client, codec)) == 2
    assert await _consumers(client, codec) == []


async def test_readers_that_share_a_consumer_do_not_go_on_in_another_log(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "old", [Deposited()] * 5)
    async with (
        aclosing(store.pages(live=True, shared=True, unread=True)) as one,
        aclosing(store.pages(live=True, shared=True, unread=True)) as two,
    ):
        for each in (one, two):
            assert (await anext(each)).position == 5
        await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
        await declare_log(client, codec)
        await store.append("account", "new", [Deposited()] * 20)
        async with asyncio.timeout(20):
            for each in (one, two):
                with pytest.raises(CorruptLog, match="the log was replaced: position 5 is one of"):
                    await anext(each)


@pytest.mark.parametrize("max_heads", [2, 50_000])
async def test_however_few_heads_a_reader_remembers_it_tells_events_from_foreign_messages(
    client: Client, store: EventStore, codec: Codec, max_heads: int
) -> None:
    for number in range(20):
        own = f"a{number % 5}"
        await store.append("account", own, [Opened(), Deposited()])
        await forge(client, codec, own, 2 * (number // 5) + 3)

    reader = EventReader(client, codec, max_heads=max_heads)
    seen: list[int] = []
    await _drain(reader.pages(max_events=3), seen)

    assert seen == [each for each in range(1, 61) if each % 3]
    assert list(reader.findings.by_position("foreign")) == list(range(3, 61, 3))
