"""Appends sent again: answered as recorded whatever they expect, and no id twice in an aggregate.

Each within the server's duplicate window and after it, while somebody else appends.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.errors import Conflict, DuplicateId
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, derive_id
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import Header
from eventstore.store.append import ANY, NO_STREAM, Append, AppendResult, Expected
from eventstore.store.head import NOTHING
from eventstore.store.id_index import IdIndex
from eventstore.store.known_heads import HEAD_BYTES
from eventstore.store.store import EventStore
from tests.integration.ledger import (
    FAST,
    Deposited,
    Opened,
    declare_log,
    fixed,
    last_position,
    read,
    until_forgotten,
)

ROUNDS = 12


@pytest.fixture(params=["inside", "after"])
async def window(request: pytest.FixtureRequest, client: Client, codec: Codec) -> str:
    """Whether repeats are sent inside the server's duplicate window or after it."""
    await declare_log(client, codec, FAST if request.param == "after" else None)
    return str(request.param)


@pytest.fixture
async def store(window: str, client: Client, codec: Codec) -> AsyncIterator[EventStore]:
    async with EventStore(client, codec) as store:
        yield store


Later = Callable[[], Awaitable[None]]
"""Waits until the server has forgotten the ids, if the window is to be over."""


@pytest.fixture
def later(window: str, client: Client, codec: Codec) -> Later:
    async def wait() -> None:
        if window == "after":
            await until_forgotten(client, codec)

    return wait


def to(aggregate_id: str, *events: NewEvent, expected: Expected = ANY) -> Append:
    return Append(aggregate="account", aggregate_id=aggregate_id, events=events, expected=expected)


def alike(again: Sequence[AppendResult], first: Sequence[AppendResult]) -> bool:
    """Whether a repeat was answered as the append was, but for being one."""
    return list(again) == [msgspec.structs.replace(each, duplicate=True) for each in first]


@asynccontextmanager
async def somebody_appends(
    store: EventStore, ids: Sequence[str], pause: float
) -> AsyncIterator[None]:
    """Append to these aggregates in turns inside the block, from another connection."""

    async def append() -> None:
        while True:
            for each in ids:
                await store.append("account", each, Deposited(note="other"))
                await asyncio.sleep(pause)

    task = asyncio.create_task(append())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def random_appends(
    store: EventStore, dice: random.Random, name: str
) -> tuple[list[Append], list[AppendResult]]:
    """An append of mixed parts that is recorded, and its answer."""
    appends = []
    for number in range(dice.randint(1, 3)):
        own_id = f"{name}-{number}"
        head = NOTHING
        for _ in range(dice.randint(0, 2)):
            head = (await store.append("account", own_id, Opened(), expected=head)).head
        kinds: list[Expected] = [ANY, head, head.version, *([] if head.version else [NO_STREAM])]
        events = [fixed() for _ in range(dice.randint(1, 2))]
        appends.append(to(own_id, *events, expected=dice.choice(kinds)))
    dice.shuffle(appends)
    return appends, await store.append_all(*appends)


def expecting_otherwise(
    appends: Sequence[Append], first: Sequence[AppendResult], dice: random.Random
) -> list[Append]:
    """The same events with other expectations: what the append itself has led to, among them."""
    return [
        msgspec.structs.replace(
            append,
            expected=dice.choice([append.expected, ANY, NO_STREAM, answer.version, answer.head, 0]),
        )
        for append, answer in zip(appends, first, strict=True)
    ]


@pytest.mark.parametrize("pause", [None, 0.005, 0])
async def test_any_mix_of_parts_repeated_has_the_same_result_whatever_is_appended_meanwhile(
    store: EventStore,
    later: Later,
    client: Client,
    settings: Settings,
    codec: Codec,
    pause: float | None,
) -> None:
    dice = random.Random(f"{pause}")  # noqa: S311  # no secret
    recorded = [await random_appends(store, dice, f"a{number}") for number in range(ROUNDS)]
    await later()
    async with connect(settings) as own, EventStore(own, codec) as other:
        for appends, first in recorded:
            some = dice.sample(appends, dice.randint(1, len(appends)))
            busy = [str(each.aggregate_id) for each in some]
            if pause is None:
                assert alike(await store.append_all(*appends), first)
                continue
            await other.append("account", busy[0], Deposited(note="other"))
            async with somebody_appends(other, busy, pause):
                for sender in (store, other):  # which has read the aggregates, and which has not
                    assert alike(await sender.append_all(*appends), first)
                    changed = expecting_otherwise(appends, first, dice)
                    assert alike(await sender.append_all(*changed), first), changed
    reader = DirectReader(client, codec.subjects.log_stream)
    stored = reader.messages(codec.subjects.log("account", "x").replace(".x", ".*"))
    ids = [message.headers[Header.EVENT_ID] async for message in stored]
    assert len(set(ids)) == len(ids)


async def ends_in_duplicate_id(appending: Awaitable[object], event: NewEvent) -> None:
    assert event.identity is not None
    with pytest.raises(DuplicateId, match=event.identity.id):
        await appending


@pytest.mark.parametrize(
    ("followed", "expected"), [(True, ANY), (False, ANY), (False, 2), (True, "head")]
)
async def test_an_id_of_the_aggregate_is_refused_in_another_append_to_it(
    store: EventStore, later: Later, followed: bool, expected: Any
) -> None:
    one, two = fixed(), fixed()
    first = await store.append("account", "a1", [one, two], expected=NO_STREAM)
    if followed:
        first = await store.append("account", "a1", Deposited())
    await later()
    if expected == "head":
        expected = first.head
    for events in ([fixed(), one], [one, two, fixed()], [two, one], [one, fixed(), two]):
        await ends_in_duplicate_id(
            store.append("account", "a1", events, expected=expected),
            one if one in events[:2] else two,
        )
    more = to("a2", fixed()), to("a1", one, expected=expected)
    await ends_in_duplicate_id(store.append_all(*more), one)
    assert len(await read(store, "a1")) == 2 + followed
    assert await read(store, "a2") == []


async def test_an_id_is_refused_in_whichever_aggregate_of_the_append_it_is(
    store: EventStore, later: Later
) -> None:
    one, two = fixed(), fixed()
    first = await store.append_all(to("a1", one), to("a2", two))
    await later()
    for parts in (
        [to("a1", two), to("a2", one)],
        [to("a1", NewEvent(data=Deposited())), to("a3", one)],
        [to("a3", two), to("a2", NewEvent(data=Deposited()), expected=1)],
    ):
        with pytest.raises(DuplicateId, match="is recorded at position"):
            await store.append_all(*parts)
    assert alike(await store.append_all(to("a2", two), to("a1", one)), first[::-1])
    assert await read(store, "a3") == []


async def test_an_id_is_found_however_many_events_and_batches_came_since(
    store: EventStore, later: Later
) -> None:
    old = fixed()
    first = await store.append("account", "a1", old)
    for _ in range(3):
        await store.append("account", "a1", [Deposited()] * 300)
    await later()
    head = await store.head("account", "a1")
    for expected in (ANY, head, head.version, 17):
        again = await store.append("account", "a1", old, expected=expected)
        assert (again.duplicate, again.positions) == (True, first.positions)
    await ends_in_duplicate_id(store.append("account", "a1", [fixed(), old], expected=head), old)


async def test_an_append_that_was_not_recorded_is_still_a_conflict(
    store: EventStore, later: Later
) -> None:
    await store.append("account", "a1", [Opened(), Deposited()])
    await later()
    for expected in (NO_STREAM, 1, 3, NOTHING):
        with pytest.raises(Conflict) as conflict:
            await store.append_all(to("a2", fixed()), to("a1", fixed(), expected=expected))
        assert (conflict.value.aggregate_id, conflict.value.actual) == ("a1", 2)
    assert await read(store, "a2") == []


async def test_another_aggregates_id_is_known_only_inside_the_window(
    store: EventStore, later: Later, window: str, client: Client, codec: Codec
) -> None:
    event = fixed()
    await store.append("account", "a1", event)
    await later()
    before = await last_position(client, codec)
    if window == "inside":
        with pytest.raises(DuplicateId, match="position 1"):
            await store.append("account", "a2", event, expected=NO_STREAM)
    else:  # the limit that the documentation names
        assert not (await store.append("account", "a2", event, expected=NO_STREAM)).duplicate
    assert await last_position(client, codec) == before + (window == "after")


@asynccontextmanager
async def counting_reads(client: Client, codec: Codec) -> AsyncIterator[list[str]]:
    """The reads of the log that are asked for inside the block."""
    requests: list[str] = []

    async def note(message: object) -> None:
        requests.append(message.subject)  # type: ignore[attr-defined]

    stream = codec.subjects.log_stream
    get = f"$JS.API.DIRECT.GET.{stream}"
    subjects = (get, f"{get}.>", f"$JS.API.STREAM.MSG.GET.{stream}")
    subscriptions = [await client.subscribe(subject, note) for subject in subjects]
    await client.flush()
    try:
        yield requests
    finally:
        await client.flush()
        for each in subscriptions:
            await each.processed()
            await each.unsubscribe()


async def reads_of(settings: Settings, codec: Codec, appending: Awaitable[AppendResult]) -> int:
    async with connect(settings) as watcher:
        async with counting_reads(watcher, codec) as requests:
            assert not (await appending).duplicate
        return len(requests)


async def test_only_ids_that_may_have_been_sent_before_cost_a_look(
    store: EventStore, settings: Settings, codec: Codec
) -> None:
    head = (await store.append("account", "a1", Opened())).head

    async def cost(event: NewEvent | Deposited, expected: Expected, **options: object) -> int:
        nonlocal head
        appending = _append(store, event, expected, **options)
        requests = await reads_of(settings, codec, appending)
        head = await store.head("account", "a1")
        return requests

    assert await cost(Deposited(), head) == 0  # made by the store
    assert await cost(Deposited(), head, cause=Identity.root(), known_new=True) == 0
    assert await cost(fixed(), head) == 1  # all of the aggregate
    assert await cost(fixed(), head) == 0  # known
    assert await cost(Deposited(), head) == 0
    assert await cost(Deposited(), head, cause=Identity.root()) == 0
    async with EventStore(store._client, codec) as other:
        await other.append("account", "a1", Deposited())
    head = await store.head("account", "a1")
    assert await cost(fixed(), head) == 1  # what the other has added
    assert (await store.append("account", "new", fixed(), expected=NO_STREAM)).version == 1


async def _append(
    store: EventStore, event: NewEvent | Deposited, expected: Expected, **options: object
) -> AppendResult:
    append = Append(
        aggregate="account",
        aggregate_id="a1",
        events=[event],
        expected=expected,
        **options,  # type: ignore[arg-type]
    )
    return (await store.append_all(append))[0]


async def test_the_remembered_ids_are_bounded_and_forgotten_ones_are_looked_for(
    store: EventStore, later: Later
) -> None:
    store._ids = index = IdIndex(store._linked, max_bytes=10 * 1024)
    events = {f"a{number}": fixed() for number in range(12)}
    first = {}
    for own_id, event in events.items():
        head = (await store.append("account", own_id, Opened())).head
        first[own_id] = await store.append("account", own_id, event, expected=head)
        assert 0 < index.size <= 10 * 1024
    await later()
    for own_id, event in events.items():
        again = await store.append("account", own_id, event, expected=first[own_id].head)
        assert (again.duplicate, again.positions) == (True, first[own_id].positions)


async def test_a_log_recreated_under_a_running_store_is_read_from_scratch(
    client: Client, codec: Codec
) -> None:
    stream = codec.subjects.log_stream
    await declare_log(client, codec, FAST)
    async with EventStore(client, codec) as store:
        for _ in range(2):
            head = (await store.append("account", "a1", Opened())).head
            await store.append("account", "a1", fixed(), expected=head)
        await client.api(f"STREAM.DELETE.{stream}")
        await declare_log(client, codec, FAST)
        old = fixed()
        async with EventStore(client, codec) as other:
            for event in (Opened(), Opened(), Opened(), old, Opened()):
                first = await other.append("account", "a1", event)
        await until_forgotten(client, codec)
        again = await store.append("account", "a1", old, expected=first.head)
        assert (again.duplicate, again.positions) == (True, (4,))


async def test_the_same_id_from_two_connections_concurrently_is_recorded_once_for_both(
    store: EventStore, settings: Settings, codec: Codec
) -> None:
    async with connect(settings) as client, EventStore(client, codec) as other:
        for number in range(20):
            event = fixed()
            expected: Expected = ANY if number % 2 else NO_STREAM
            answers = await asyncio.gather(
                *(
                    s.append("account", f"a{number}", event, expected=expected)
                    for s in (store, other)
                )
            )
            assert sorted(each.duplicate for each in answers) == [False, True]
            assert answers[0].positions == answers[1].positions


async def test_large_batches_of_new_ids_do_not_have_the_aggregate_read_again(
    store: EventStore, settings: Settings, codec: Codec
) -> None:
    numbers = itertools.count()
    seed = "00000000-0000-4000-8000-000000000001"  # always the same ids: chance has no part in it

    def events(count: int) -> list[NewEvent]:
        ids = (derive_id(seed, str(next(numbers))) for _ in range(count))
        return [NewEvent(data=Deposited(), identity=Identity.root(each)) for each in ids]

    head = (await store.append("account", "a1", events(1000), expected=NO_STREAM)).head
    head = (await store.append("account", "a1", events(1), expected=head)).head
    async with connect(settings) as watcher, counting_reads(watcher, codec) as requests:
        for _ in range(5):
            head = (await store.append("account", "a1", events(1000), expected=head)).head
    assert head.version == 6001
    assert requests == []


async def test_the_heads_of_so_many_aggregates_are_remembered(
    client: Client, settings: Settings, codec: Codec
) -> None:
    await declare_log(client, codec)
    async with EventStore(client, codec, cache_bytes=2 * 2 * HEAD_BYTES) as store:
        for own in ("a1", "a2", "a3"):
            await store.append("account", own, Opened())

        reads = [
            await reads_of(settings, codec, store.append("account", own, Deposited()))
            for own in ("a3", "a2", "a1")
        ]

    assert reads[:2] == [0, 0]
    assert reads[2] > 0
