"""Retries of parked events: handled by the subscriber that failed, in order, and not lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventstore.application import running
from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.errors import NotParked, RetryFailed, RetryOutOfOrder
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.parking.messages import ParkedMessages
from eventstore.parking.record import ParkedRecord, store_record
from eventstore.parking.retry import request_retry
from eventstore.projections.feed.feed import Feed
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from eventstore.subscribers.subscriber import EventSubscriber
from tests.conftest import settings_for
from tests.integration.command_line import CommandLine
from tests.integration.feeding import declare_feed, deposit
from tests.integration.ledger import Deposited
from tests.proxy import TcpProxy

SOON = 0.2
"""Seconds in which no answer comes that somebody keeps back."""


@pytest.fixture(autouse=True)
async def fed(client: Client, store: EventStore) -> AsyncIterator[None]:
    """What is appended is public soon."""
    await declare_feed(client, store.codec)
    async with running(Feed(client, store)):
        yield


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


class Mailbox:
    """A handler that notes the positions it is called with; it fails while it is `broken`.

    At a position that is in `gates` it waits until that is open.
    """

    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.positions: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self._more = asyncio.Condition()

    async def __call__(self, _event: Event, recorded: RecordedEvent) -> None:
        async with self._more:
            self.positions.append(recorded.position)
            self._more.notify_all()
        if recorded.position in self.gates:
            await self.gates[recorded.position].wait()
        if self.broken:
            raise ValueError("the post office is closed")

    async def until(self, *positions: int) -> None:
        """Return when it has been called with exactly these."""
        async with self._more:
            await self._more.wait_for(lambda: self.positions == list(positions))


def mailer(client: Client, codec: Codec, mailbox: Mailbox, **options: Any) -> EventSubscriber:
    options = {"max_attempts": 1, "backoff": 0.001, **options}
    return EventSubscriber(client, codec, "mailer", **options).subscribe([], mailbox)


async def park(client: Client, store: EventStore, count: int = 1, **options: Any) -> None:
    """Have a mailer fail on so many events."""
    await deposit(store, count)
    async with running(mailer(client, store.codec, Mailbox(broken=True), **options)):
        await until_parked(client, store, count)


async def until_parked(client: Client, store: EventStore, count: int) -> None:
    stream = store.codec.subjects.parked_stream
    while (await client.api(f"STREAM.INFO.{stream}"))["state"]["messages"] < count:
        pass


@pytest.fixture
def parked(client: Client, store: EventStore) -> ParkedMessages:
    return ParkedMessages(client, store.codec.subjects)


async def sequences(parked: ParkedMessages) -> list[int]:
    return [message.sequence async for message in parked.read()]


@pytest.mark.parametrize("options", [{}, {"ordered": False}, {"acknowledge": "before"}], ids=str)
async def test_only_the_subscriber_that_failed_handles_it(
    client: Client, store: EventStore, parked: ParkedMessages, options: dict[str, Any]
) -> None:
    await park(client, store, **options)
    own, others = Mailbox(), Mailbox()
    other = EventSubscriber(client, store.codec, "other").subscribe([], others)
    async with running(subscriber := mailer(client, store.codec, own, **options), other):
        await subscriber.ready.wait()
        await others.until(1)
        retried = await parked.retry(1)
    assert retried.record.subscriber == "mailer"
    assert (own.positions, others.positions, subscriber.handled) == ([1], [1], 1)
    assert await sequences(parked) == []


async def test_a_retry_that_fails_leaves_the_record_unchanged(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store)
    before = await parked.get(1)
    mailbox = Mailbox(broken=True)
    async with running(subscriber := mailer(client, store.codec, mailbox, max_attempts=3)):
        await subscriber.ready.wait()
        with pytest.raises(RetryFailed, match=r"1 is still parked: .*mailer: the post office"):
            await parked.retry(1)
        assert (mailbox.positions, subscriber.handled, subscriber.parked) == ([1, 1, 1], 0, 0)
        assert await parked.get(1) == before
        mailbox.broken = False
        await parked.retry(1)
    assert await sequences(parked) == []


async def test_a_subscriber_that_does_not_run_is_named(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store)
    with pytest.raises(RetryFailed, match="subscriber mailer does not run; start it"):
        await parked.retry(1)
    assert await sequences(parked) == [1]


async def test_a_retry_waits_for_other_deliveries_of_the_aggregate(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store)
    mailbox = Mailbox()
    gate = mailbox.gates[2] = asyncio.Event()
    await deposit(store, 2)
    async with running(mailer(client, store.codec, mailbox)):
        await mailbox.until(2)
        with pytest.raises(RetryFailed, match=r"no answer from subscriber mailer within 0\.2 s"):
            await parked.retry(1, timeout=SOON)
        assert mailbox.positions == [2]
        gate.set()
        while await sequences(parked):
            pass
    assert sorted(mailbox.positions) == [1, 2, 3]


async def test_retries_of_an_unordered_subscriber_run_concurrently(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store, ordered=False)
    mailbox = Mailbox()
    gate = mailbox.gates[2] = asyncio.Event()
    await deposit(store, 1, "a2")
    async with running(mailer(client, store.codec, mailbox, ordered=False)):
        await mailbox.until(2)
        await parked.retry(1)
        gate.set()
    assert mailbox.positions == [2, 1]


async def test_the_older_of_an_aggregate_goes_first(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store, 3)
    await store_record(client, *for_somebody_else(store.codec, (await parked.get(1)).record))
    await parked.discard(1)
    mailbox = Mailbox()
    async with running(subscriber := mailer(client, store.codec, mailbox)):
        await subscriber.ready.wait()
        with pytest.raises(RetryOutOfOrder, match="2, of the same aggregate"):
            await parked.retry(3)
        await parked.retry(3, out_of_order=True)
        await parked.retry(2)
        with pytest.raises(RetryFailed, match="it is parked for another"):
            await request_retry(client, store.codec.subjects, "mailer", 4, 5)
    assert mailbox.positions == [3, 2]
    assert await sequences(parked) == [4]


def for_somebody_else(codec: Codec, record: ParkedRecord) -> tuple[str, ParkedRecord, str]:
    other = msgspec.structs.replace(record, subscriber="another")
    return f"{codec.domain}.parked.event.another.account.deposited", other, "key"


async def test_all_are_retried_in_their_order_and_those_behind_a_failure_wait(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await deposit(store, 2, "a1")
    await deposit(store, 2, "a2")
    mailbox = Mailbox(broken=True)
    async with running(mailer(client, store.codec, mailbox)):
        await until_parked(client, store, 4)
        failed = await parked.retry_all()
        assert (failed.retried, list(failed.left)) == (0, [1, 2, 3, 4])
        assert mailbox.positions == [1, 2, 3, 4, 1, 3]
        mailbox.broken = False
        result = await parked.retry_all()
    assert (result.retried, result.left) == (4, {})
    assert mailbox.positions[6:] == [1, 2, 3, 4]
    assert await sequences(parked) == []


async def test_concurrent_retries_are_handled_once(
    client: Client, store: EventStore, parked: ParkedMessages, settings: Settings
) -> None:
    await park(client, store)
    mailbox = Mailbox()
    gate = mailbox.gates[1] = asyncio.Event()
    async with connect(settings) as other:
        one, two = (mailer(each, store.codec, mailbox) for each in (client, other))
        async with running(one):
            await one.ready.wait()
            both = [asyncio.create_task(parked.retry(1)) for _ in range(2)]
            await mailbox.until(1)
            gate.set()
            await asyncio.wait(both)
            (failed,) = [error for each in both if (error := each.exception()) is not None]
            assert isinstance(failed, RetryFailed | NotParked)
            assert "nothing is parked there" in str(failed)
        async with running(two):
            await two.ready.wait()
            with pytest.raises(NotParked):
                await parked.retry(1)
    assert mailbox.positions == [1]


async def test_a_waiting_retry_is_refused_when_the_subscriber_stops(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store)
    mailbox = Mailbox()
    gate = mailbox.gates[2] = asyncio.Event()
    await deposit(store, 1)
    async with running(subscriber := mailer(client, store.codec, mailbox)):
        await mailbox.until(2)
        waiting = asyncio.create_task(parked.retry(1))
        with pytest.raises(RetryFailed, match="no answer"):  # which comes behind the other
            await parked.retry(1, timeout=SOON)
        subscriber.stop()
        with pytest.raises(RetryFailed, match="is being stopped"):
            await waiting
        gate.set()
    assert mailbox.positions == [2]
    assert await sequences(parked) == [1]


async def test_a_retry_between_attempts_is_refused_when_the_subscriber_stops(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store)
    mailbox = Mailbox(broken=True)
    subscriber = mailer(client, store.codec, mailbox, max_attempts=2, backoff=60)
    async with running(subscriber):
        await subscriber.ready.wait()
        waiting = asyncio.create_task(parked.retry(1))
        await mailbox.until(1)
        subscriber.stop()
        with pytest.raises(RetryFailed, match="is being stopped"):
            await waiting
    assert await sequences(parked) == [1]


async def test_a_process_that_dies_over_it_leaves_it_parked(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await park(client, store)
    mailbox = Mailbox()
    mailbox.gates[1] = asyncio.Event()
    dying = mailer(client, store.codec, mailbox)
    task = asyncio.create_task(dying.run())
    await dying.ready.wait()
    waiting = asyncio.create_task(parked.retry(1, timeout=1))
    await mailbox.until(1)
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(RetryFailed):
        await waiting
    assert await sequences(parked) == [1]
    mailbox.gates.clear()
    async with running(again := mailer(client, store.codec, mailbox)):
        await again.ready.wait()
        await parked.retry(1)
    assert mailbox.positions == [1, 1]
    assert await sequences(parked) == []


async def test_cut_off_before_it_is_deleted_it_stays_parked_and_the_next_retry_repeats_it(
    client: Client, store: EventStore, parked: ParkedMessages, nats_server: EmbeddedServer
) -> None:
    await park(client, store)
    mailbox = Mailbox()
    async with (
        TcpProxy(nats_server) as proxy,
        connect(settings_for(proxy.url, store.codec.domain)) as far,
        running(subscriber := mailer(far, store.codec, mailbox)),
    ):
        await subscriber.ready.wait()
        cut = proxy.cut_after(b"STREAM.MSG.DELETE", "to_server", forward=False)
        with pytest.raises(RetryFailed):
            await parked.retry(1, timeout=2)
        assert cut.is_set()
        assert await sequences(parked) == [1]
        await far.wait_connected(5)
        await far.flush()
        await parked.retry(1)
    assert mailbox.positions == [1, 1]
    assert await sequences(parked) == []


async def test_a_record_of_several_parts_is_handled_and_deleted_completely(
    client: Client, store: EventStore, parked: ParkedMessages
) -> None:
    await store.append("account", "a1", Deposited(note="x" * 900_000))
    mailbox = Mailbox(broken=True)
    async with running(mailer(client, store.codec, mailbox)):
        await until_parked(client, store, 2)
        mailbox.broken = False
        await parked.retry(2)
    info = await client.api(f"STREAM.INFO.{store.codec.subjects.parked_stream}")
    assert info["state"]["messages"] == 0


async def test_a_malformed_request_is_refused(client: Client, store: EventStore) -> None:
    async with running(subscriber := mailer(client, store.codec, Mailbox())):
        await subscriber.ready.wait()
        subject = store.codec.subjects.retry("mailer")
        for payload in (b"", b"{}", b'{"sequence": "one"}', b"\xff"):
            answer = await client.request(subject, payload)
            assert (answer.headers or {})["Nats-Service-Error-Code"] == "invalid_payload"
        with pytest.raises(RetryFailed, match="nothing is parked there"):
            await request_retry(client, store.codec.subjects, "mailer", 7, 5)


async def test_the_command_line_shows_the_result(
    client: Client, store: EventStore, nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    await park(client, store)
    domain = store.codec.domain
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain}"\n')
    cli = CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)
    refused = await asyncio.to_thread(cli.call, "parked", "retry", "1")
    async with running(subscriber := mailer(client, store.codec, Mailbox())):
        await subscriber.ready.wait()
        handled = await asyncio.to_thread(cli.call, "parked", "retry", "1")
    assert (refused.status, refused.out) == (2, "")
    assert "subscriber mailer does not run" in refused.err
    assert (handled.status, handled.err) == (0, "")
    assert handled.lines == [f"handled by mailer: {domain}.event.account.deposited a1"]
