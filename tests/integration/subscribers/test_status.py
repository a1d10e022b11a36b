"""The status of subscribers, a reset of their position, and their health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.errors import DeciderError, NoSuchPosition, UnknownSubscriber
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.messages.upcasting import Upcaster
from eventstore.parking.messages import ParkedMessages
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.subscribers_check import SubscribersCheck
from eventstore.service.health import CheckResult
from eventstore.service.metrics import Metrics
from eventstore.store.store import EventStore
from eventstore.subscribers.declaration import Subscriber
from eventstore.subscribers.feed_watch import FeedWatch
from eventstore.subscribers.status import Subscribers
from eventstore.subscribers.subscriber import EventSubscriber
from eventstore.telemetry import NO_TELEMETRY
from tests.integration.commanding import until
from tests.integration.feeding import declare_feed, deposit, until_fed
from tests.integration.ledger import Deposited, Opened
from tests.integration.subscribers.position_recorder import PositionRecorder


@pytest.fixture(autouse=True)
async def bound(client: Client, codec: Codec) -> AsyncIterator[None]:
    await declare_feed(client, codec)
    async with asyncio.timeout(30):
        yield


@pytest.fixture
def several(client: Client, codec: Codec) -> Subscribers:
    return Subscribers(client, codec.subjects)


async def check(
    client: Client, subscriber: EventSubscriber, telemetry: Any = NO_TELEMETRY
) -> CheckResult:
    subjects = subscriber._codec.subjects
    return await SubscribersCheck(client, subjects, [subscriber], telemetry=telemetry)()


async def until_done(several: Subscribers, name: str) -> None:
    async def is_done() -> bool:
        return (await several.get(name)).lag == 0

    await until(is_done)


async def test_the_status_shows_position_lag_and_what_is_parked(
    client: Client, store: EventStore, several: Subscribers
) -> None:
    async def fail(_event: Event, _recorded: RecordedEvent) -> None:
        raise ValueError("no")

    entered = asyncio.Event()

    async def wait(_event: Event, recorded: RecordedEvent) -> None:
        if recorded.position == 3:
            entered.set()
            await asyncio.Event().wait()

    assert await several.list() == []
    await store.append("account", "a1", [Opened(), Deposited(), Deposited(), Deposited()])
    one = EventSubscriber(client, store.codec, "r", max_attempts=1).subscribe([Opened], fail)
    async with running(Feed(client, store)):
        task = asyncio.create_task(one.subscribe([Deposited], wait).run())
        await entered.wait()
        await until_fed(client, store.codec, 4)
        (found,) = await several.list()
        same = await several.get("r")
        assert 0 < found.lag_seconds < same.lag_seconds
        assert found == msgspec.structs.replace(same, lag_seconds=found.lag_seconds)
        assert (found.state, found.position, found.lag, found.parked) == ("running", 2, 2, 1)
        assert found.unacknowledged == 1
        assert found.subjects == tuple(
            store.codec.subjects.event("account", each) for each in ("deposited", "opened")
        )
        task.cancel()
        await asyncio.wait([task])


async def test_an_unknown_name_is_named(client: Client, several: Subscribers) -> None:
    with pytest.raises(UnknownSubscriber, match="no subscriber r has run"):
        await several.get("r")


@pytest.mark.parametrize(
    ("start", "after", "again"), [("all", 0, 4), (2, 2, 2), ("new", 4, 0), (0, 0, 4)]
)
@pytest.mark.parametrize("runs", [True, False])
async def test_a_reset_redelivers_what_it_says(
    client: Client,
    store: EventStore,
    several: Subscribers,
    start: Any,
    after: int,
    again: int,
    runs: bool,
) -> None:
    expected = list(range(after + 1, 6))
    recorder = PositionRecorder()
    one = EventSubscriber(client, store.codec, "r").subscribe([], recorder)
    async with running(Feed(client, store)):
        async with running(one):
            await recorder.until(await deposit(store, 4))
            await until_done(several, "r")
            if runs:
                recorder.positions.clear()
                plan = await several.plan_reset("r", start)
                assert recorder.positions == []
                await several.reset(plan)
                assert await recorder.until(await deposit(store, 1)) == expected
        if not runs:
            plan = await several.plan_reset("r", start)
            await several.reset(plan)
            recorder = PositionRecorder()
            later = EventSubscriber(client, store.codec, "r").subscribe([], recorder)
            async with running(later):
                assert await recorder.until(await deposit(store, 1)) == expected
    assert (plan.after, plan.position, plan.again) == (after, 4, again)


async def test_a_reset_beyond_the_end_of_the_log_is_refused(
    client: Client, store: EventStore, several: Subscribers
) -> None:
    one = EventSubscriber(client, store.codec, "r").subscribe([], PositionRecorder())
    async with running(one):
        await one.ready.wait()
        end = await deposit(store, 2)
        assert (await several.plan_reset("r", end)).after == end
        with pytest.raises(NoSuchPosition, match=r"cannot start after position 3: .* ends at 2"):
            await several.plan_reset("r", end + 1)


async def test_a_reset_redelivers_gained_events_that_had_passed(
    client: Client, store: EventStore, several: Subscribers
) -> None:
    await store.append("account", "a1", [Opened(), Deposited(), Opened()])
    async with running(Feed(client, store)):
        sets: list[list[type[Event]]] = [[Opened], [Opened, Deposited]]
        for types in sets:
            recorder = PositionRecorder()
            one = EventSubscriber(client, store.codec, "r").subscribe(types, recorder)
            async with running(one):
                await one.ready.wait()
                await until_fed(client, store.codec, 3)
                await until_done(several, "r")
        await several.reset(await several.plan_reset("r", 1))
        recorder = PositionRecorder()
        one = EventSubscriber(client, store.codec, "r").subscribe([Opened, Deposited], recorder)
        async with running(one):
            assert await recorder.until(3) == [2, 3]


async def test_a_name_that_was_renamed_is_not_reset(
    client: Client, store: EventStore, several: Subscribers
) -> None:
    old = EventSubscriber(client, store.codec, "old").subscribe([], PositionRecorder())
    async with running(old):
        await old.ready.wait()
    new = EventSubscriber(client, store.codec, "new", continues="old").subscribe(
        [], PositionRecorder()
    )
    async with running(new):
        await new.ready.wait()
    with pytest.raises(UnknownSubscriber, match="old was renamed: reset new instead"):
        await several.plan_reset("old", "all")
    states = {each.name: (each.state, each.continued_by) for each in await several.list()}
    assert states == {"old": ("continued", "new"), "new": ("stopped", None)}
    found = await check(client, old)
    assert (found.status, found.problem) == (
        "unhealthy",
        "old: new has taken over its position",
    )


async def test_a_parked_event_makes_it_degraded_until_it_is_dealt_with(
    client: Client, store: EventStore, several: Subscribers
) -> None:
    failures = [ValueError("no")] * 2

    async def fail(_event: Event, _recorded: RecordedEvent) -> None:
        if failures:
            raise failures.pop()

    metrics = Metrics()
    one = EventSubscriber(
        client, store.codec, "r", max_attempts=2, backoff=0.001, telemetry=metrics
    )
    async with running(Feed(client, store, telemetry=metrics), one.subscribe([], fail)):
        await one.ready.wait()
        assert (await check(client, one)).status == "healthy"
        await deposit(store, 1)

        async def is_parked() -> bool:
            return one.parked == 1

        await until(is_parked)
        found = await check(client, one, metrics)
        assert found.status == "degraded"
        assert found.problem == "r: an event parked, to be retried or discarded"
        facts = found.facts["subscribers"]["r"]
        assert (facts["parked"], facts["retries"], facts["handled"]) == (1, 1, 0)
        text = metrics.render().decode()
        stream = store.codec.subjects.event_stream
        for line in (
            'eventstore_subscriber_parked_events{subscriber="r"} 1.0',
            'eventstore_retries_total{operation="subscriber"} 1.0',
            'eventstore_parked_total{code="handler_failed"} 1.0',
            "eventstore_feed_lag_events 0.0",
            'eventstore_subscriber_lag_seconds{subscriber="r"} 0.0',
            f'eventstore_events_published_total{{stream="{stream}"}} 1.0',
        ):
            assert line in text, line
        parked = ParkedMessages(client, store.codec.subjects)
        (message,) = [each async for each in parked.read()]
        await parked.retry(message.sequence)
        assert (await check(client, one)).status == "healthy"
    assert 'eventstore_events_handled_total{subscriber="r"} 1.0' in metrics.render().decode()


async def test_a_missing_consumer_is_unhealthy(client: Client, store: EventStore) -> None:
    one = EventSubscriber(client, store.codec, "r").subscribe([], PositionRecorder())
    found = await check(client, one)
    assert found.status == "unhealthy"
    assert "no subscriber r has run" in (found.problem or "")


async def test_a_subscriber_beside_which_no_feed_runs_says_so(
    client: Client,
    store: EventStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("eventstore.subscribers.subscriber.STALLED_SECONDS", 0.2)
    await deposit(store, 1)
    one = EventSubscriber(client, store.codec, "r").subscribe([], PositionRecorder())
    async with running(one):

        async def is_said() -> bool:
            return one.feed.problem is not None

        await until(is_said)
        found = await check(client, one)
        assert found.status == "degraded"
        assert "r: no feed publishes: the events after position 0 of the log" in str(found.problem)
        assert "subscriber r: no feed publishes" in caplog.text
        async with running(Feed(client, store)):

            async def is_over() -> bool:
                return one.feed.problem is None

            await until(is_over)
            assert (await check(client, one)).status == "healthy"


async def test_foreign_messages_in_the_log_are_not_waited_for(
    client: Client, store: EventStore
) -> None:
    subjects = store.codec.subjects
    async with running(Feed(client, store)):
        await until_fed(client, store.codec, await deposit(store, 1))
    watch = FeedWatch(client, store.codec, stalled=0.0)
    for _ in range(2):
        await client.nats.jetstream().publish(subjects.log("account", "a9"), b"foreign")
        await watch.look()
        assert watch.problem is None
    await deposit(store, 1)
    await watch.look()
    await watch.look()
    assert watch.problem is not None


async def test_events_that_an_upcaster_drops_are_not_waited_for(
    client: Client, store: EventStore
) -> None:
    def drop(_data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        return []

    await deposit(store, 1)
    upcaster = Upcaster.of(("Deposited", 1), [], drop)
    dropping = Codec(store.codec.domain, (), (Opened,), [upcaster])
    watch = FeedWatch(client, dropping, stalled=0.0)
    for _ in range(2):
        await watch.look()
    assert watch.problem is None


async def test_events_that_only_newer_code_knows_are_waited_for(
    client: Client, store: EventStore
) -> None:
    await deposit(store, 1)
    watch = FeedWatch(client, Codec(store.codec.domain, (), (Opened,)), stalled=0.0)
    for _ in range(2):
        await watch.look()
    assert "after position 0" in (watch.problem or "")


async def test_what_another_release_has_left_out_is_named(
    client: Client, store: EventStore
) -> None:
    one = EventSubscriber(client, store.codec, "r").subscribe(
        [Opened, Deposited], PositionRecorder()
    )
    other = EventSubscriber(client, store.codec, "r").subscribe([Opened], PositionRecorder())
    async with running(one):
        await one.ready.wait()
        async with running(other):
            await other.ready.wait()
            found = await check(client, one)
    left_out = store.codec.subjects.event("account", "deposited")
    assert (found.status, found.problem) == (
        "degraded",
        f"r: other processes have left out {left_out}",
    )


async def test_options_belong_into_the_declaration(client: Client, codec: Codec) -> None:
    with pytest.raises(DeciderError, match="ordered belong into its declaration"):
        EventSubscriber(client, codec, Subscriber("r"), ordered=False)


async def test_one_declaration_runs_in_several_processes_with_resources_of_each(
    client: Client, store: EventStore
) -> None:
    declared = Subscriber("r", ordered=False)
    lists: tuple[list[str], list[str]] = ([], [])

    @declared.handles
    async def opened(_event: Opened, recorded: RecordedEvent, *, seen: list[str]) -> None:
        seen.append(recorded.aggregate_id)

    several = [
        EventSubscriber(client, store.codec, declared, resources={"seen": each}) for each in lists
    ]
    async with running(Feed(client, store), *several):
        for number in range(10):
            await store.append("account", f"a{number}", [Opened()])

        async def are_handled() -> bool:
            return sum(map(len, lists)) == 10

        await until(are_handled)
    assert sorted(lists[0] + lists[1]) == [f"a{number}" for number in range(10)]
