"""Reading: one aggregate in pages, and everything in order; what is read is verified."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from eventstore.client.client import Client
from eventstore.errors import (
    Conflict,
    ConnectionLost,
    CorruptLog,
    InvalidPayload,
    RequestTimeout,
    StreamMissing,
    UnknownType,
    UnreadableEvent,
    UnsupportedSchema,
    VersionGap,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.page_replies import PageReplies
from eventstore.messages.chain import chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, EventHeaders, Identity
from eventstore.messages.events import RecordedEvent, UnreadEvent
from eventstore.messages.types import Event
from eventstore.store.append import NO_STREAM, Append
from eventstore.store.head import NOTHING, Head
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited, Noted, Opened, fixed, jetstream, read, read_all
from tests.integration.tampering import changed, plain_stream, replace_log, stored

Headers = dict[str, str]


def forged(
    codec: Codec,
    aggregate_id: str,
    version: int,
    *,
    payload: bytes = b"{}",
    change: Callable[[Headers], Any] = lambda headers: None,
    after: Head | None = None,
) -> tuple[str, Headers]:
    """The subject and the headers of a foreign program's message.

    With `after` its chain value follows on that head, as the store itself would have written it.
    """
    envelope = Envelope(
        identity=Identity.root(),
        type="Deposited",
        domain=codec.domain,
        timestamp="2026-01-01T00:00:00.000000Z",
        aggregate_id=aggregate_id,
        version=version,
        chain="0" * 64,
    )
    headers = envelope.to_headers()
    change(headers)
    subject = codec.subjects.log("account", aggregate_id)
    if after is not None:
        headers["X-Chain"] = chain_value(after.chain, subject, headers, payload)
    return subject, headers


async def forge(
    client: Client,
    codec: Codec,
    aggregate_id: str,
    version: int,
    *,
    payload: bytes = b"{}",
    change: Callable[[Headers], Any] = lambda headers: None,
    after: Head | None = None,
) -> int:
    """Put a message into the log as a foreign program would (`forged`); returns its position."""
    subject, headers = forged(
        codec, aggregate_id, version, payload=payload, change=change, after=after
    )
    return (await jetstream(client).publish(subject, payload, headers=headers)).seq


def setting(name: str, value: str) -> Callable[[Headers], Any]:
    return lambda headers: headers.update({name: value})


def without(name: str) -> Callable[[Headers], Any]:
    return lambda headers: headers.pop(name)


async def _collect(events: AsyncIterator[RecordedEvent], into: list[RecordedEvent]) -> None:
    async for event in events:
        into.append(event)  # noqa: PERF401  # what came before an error is wanted


async def test_an_aggregate_longer_than_several_pages_is_read_completely(store: EventStore) -> None:
    for _ in range(7):
        await store.append("account", "a1", [Deposited(amount=n) for n in range(100)])
        await store.append("account", "a2", [Deposited()])
    events = await read(store, "a1")
    assert [event.version for event in events] == list(range(1, 701))
    assert [event.data for event in events[:100]] == [Deposited(amount=n) for n in range(100)]
    assert {event.aggregate_id for event in events} == {"a1"}


@pytest.mark.parametrize("count", [1, 255, 256, 257, 512])
async def test_pages_that_end_with_the_history_leave_nothing_out(
    store: EventStore, count: int
) -> None:
    await store.append("account", "a1", [Deposited()] * count)
    assert len(await read(store, "a1")) == count


async def test_an_aggregate_is_read_after_a_version_or_a_head(store: EventStore) -> None:
    heads = [(await store.append("account", "a1", Deposited(amount=n))).head for n in range(5)]
    everything = await read(store, "a1")
    for version in range(7):
        assert await read(store, "a1", after=version) == everything[version:]
    for head in (NOTHING, *heads):
        assert await read(store, "a1", after=head) == everything[head.version :]


async def test_an_aggregate_without_events_has_no_head(store: EventStore) -> None:
    assert await read(store, "a1") == []
    assert await store.head("account", "a1") == NOTHING
    assert await store.head("account", "a1", leader=True) == NOTHING


async def test_the_leader_and_a_direct_get_agree_on_the_head(store: EventStore) -> None:
    appended = await store.append("account", "a1", [Opened(), Deposited()], actor="jürg")
    assert await store.head("account", "a1", leader=True) == appended.head
    assert await store.head("account", "a1") == appended.head


async def test_a_recorded_event_has_all_that_was_written(store: EventStore) -> None:
    cause = Identity.root()
    await store.append("account", "a1", Deposited(amount=7), cause=cause, actor="ann")
    for (event,) in (await read(store, "a1"), await read_all(store)):
        assert (event.data, event.type) == (Deposited(amount=7), "Deposited")
        assert (event.aggregate, event.aggregate_id) == ("account", "a1")
        assert (event.version, event.position) == (1, 1)
        assert event.correlation_id == event.causation_id == cause.id
        assert event.envelope.actor == "ann"
        assert json.loads(event.payload) == {"amount": 7, "note": ""}
        assert event.headers["X-Event-ID"] == event.id


async def test_a_gap_in_the_versions_is_found(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await plain_stream(client, codec)
    await store.append("account", "a1", Opened())
    for amount in range(3):
        await store.append("account", "a1", Deposited(amount=amount))
    await client.api(f"STREAM.MSG.DELETE.{codec.subjects.log_stream}", {"seq": 2})
    events: list[RecordedEvent] = []
    with pytest.raises(VersionGap, match="no version 2 before 3"):
        await _collect(store.read("account", "a1"), events)
    assert [event.version for event in events] == [1]
    with pytest.raises(Conflict):
        await store.append("account", "a1", Deposited(), expected=1)


async def test_an_event_that_was_changed_is_not_passed_over(
    store: EventStore, client: Client, codec: Codec
) -> None:
    for amount in range(4):
        await store.append("account", "a1", Deposited(amount=amount))
    await replace_log(client, codec, changed(1, b'{"amount":9}')(await stored(client, codec)))
    events: list[RecordedEvent] = []
    with pytest.raises(UnreadableEvent, match=r"position 2, .* it was changed") as unreadable:
        await _collect(store.read("account", "a1"), events)
    assert unreadable.value.position == 3
    assert [event.version for event in events] == [1]


UNREADABLE = [
    (b"not json", lambda headers: None, InvalidPayload),
    (b'{"amount": "many"}', lambda headers: None, InvalidPayload),
    (b'{"amount": 1, "note": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", dict, InvalidPayload),
    (b"{}", setting("X-Event-Type", "Withdrawn"), UnknownType),
    (b"{}", setting("X-Schema-Version", "9"), UnsupportedSchema),
]


@pytest.mark.parametrize(("payload", "change", "cause"), UNREADABLE)
async def test_an_event_that_cannot_be_read_is_named_and_concerns_only_its_aggregate(
    store: EventStore,
    client: Client,
    codec: Codec,
    payload: bytes,
    change: Callable[[Headers], Any],
    cause: type[Exception],
) -> None:
    head = (await store.append("account", "a1", Opened())).head
    await forge(client, codec, "a1", 2, payload=payload, change=change, after=head)
    await store.append("account", "other", Opened())

    before: list[RecordedEvent] = []
    with pytest.raises(UnreadableEvent) as unreadable:
        await _collect(store.read("account", "a1"), before)
    assert [event.version for event in before] == [1]
    assert unreadable.value.position == 2
    assert unreadable.value.subject == codec.subjects.log("account", "a1")
    assert isinstance(unreadable.value.cause, cause)
    (unread,) = [each async for each in store.read_log() if isinstance(each, UnreadEvent)]
    assert f"[{unread.type} {unread.id}]" in str(unreadable.value)

    if cause is InvalidPayload:
        assert [event.position for event in await read_all(store)] == [1, 3]
    else:  # newer code may know it
        with pytest.raises(UnreadableEvent):
            await read_all(store)
    assert list(store.findings.by_position("unreadable")) == [2]
    assert (await read(store, "other"))[0].position == 3


OTHERS = {"Status": "404", "Nats-Subject": "x", "Nats-Num-Pending": "7", "Nats-Last-Sequence": "9"}


def somebody_elses(headers: Headers) -> None:
    headers.clear()
    headers.update(OTHERS)


FOREIGN: dict[str, Callable[[Headers], Any]] = {
    "another chain": lambda headers: None,
    "no envelope": Headers.clear,
    "headers of somebody else": somebody_elses,
    "what looks like the server's status": setting("Status", "500"),
    "another aggregate": setting("X-Aggregate-ID", "a2"),
    "no time": setting("X-Timestamp", "yesterday"),
    "no number": setting("X-Aggregate-Version", "one"),
    "no version": without("X-Aggregate-Version"),
    "a version that stands": setting("X-Aggregate-Version", "1"),
    "a version to come": setting("X-Aggregate-Version", "9"),
    "no type": without("X-Event-Type"),
    "no correlation": without("X-Correlation-ID"),
    "no chain": without("X-Chain"),
}


@pytest.mark.parametrize("way", FOREIGN)
async def test_what_the_store_did_not_write_is_skipped_and_not_built_upon(
    store: EventStore, client: Client, codec: Codec, way: str
) -> None:
    head = (await store.append("account", "a1", Opened())).head
    await forge(client, codec, "a1", 2, change=FOREIGN[way], payload=b"{}")

    assert [event.version for event in await read(store, "a1")] == [1]
    assert await read(store, "a1", after=head) == []
    assert await store.head("account", "a1") == head
    assert await store.head("account", "a1", leader=True) == head
    kept = await store.append("account", "a1", Deposited(amount=1), expected=head)
    assert (kept.version, kept.position) == (2, 3)
    await forge(client, codec, "a1", 3, change=FOREIGN[way], payload=b"{}")
    by_version = await store.append("account", "a1", Deposited(amount=2), expected=2)
    await forge(client, codec, "a1", 4, change=FOREIGN[way], payload=b"{}")
    anyhow = await store.append("account", "a1", Deposited(amount=3))
    await forge(client, codec, "a1", 5, change=FOREIGN[way], payload=b"{}")
    new = fixed()
    repeated = await store.append("account", "a1", new)
    assert (by_version.version, anyhow.version, repeated.version) == (3, 4, 5)

    again = await store.append("account", "a1", new)
    assert (again.duplicate, again.positions) == (True, repeated.positions)
    with pytest.raises(Conflict):
        await store.append("account", "a1", Deposited(), expected=head)
    assert [event.version for event in await read(store, "a1")] == [1, 2, 3, 4, 5]
    for after in range(10):
        found = [event.position for event in await read_all(store, after=after)]
        assert found == [each for each in (1, 3, 5, 7, 9) if each > after]
    foreign = [message async for message in store.read_foreign(after=2)]
    assert [message.position for message in foreign] == [4, 6, 8]
    assert all(message.reason for message in foreign)
    assert list(store.findings.by_position("foreign")) == [2, 4, 6, 8]


async def test_a_new_aggregate_begins_behind_what_the_store_did_not_write(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await forge(client, codec, "a1", 1)
    await forge(client, codec, "a1", 1, change=Headers.clear)
    first = await store.append("account", "a1", Opened(), expected=NO_STREAM)
    assert (first.version, first.position) == (1, 3)
    assert [event.position for event in await read(store, "a1")] == [3]


async def test_only_unknown_types_are_skipped_on_request(
    store: EventStore, client: Client, codec: Codec
) -> None:
    head = (await store.append("account", "a1", Opened())).head
    unknown = setting("X-Event-Type", "Withdrawn")
    await forge(client, codec, "a1", 2, change=unknown, after=head)
    await store.append("account", "a2", Opened())
    assert [event.position for event in await read_all(store, skip_unknown=True)] == [1, 3]
    pages = [page async for page in store.pages(skip_unknown=True, after=1, max_events=1)]
    assert [(len(page.events), page.position, page.pending) for page in pages] == [
        (0, 2, 1),
        (1, 3, 0),
    ]
    await forge(client, codec, "a3", 1, payload=b"!", after=NOTHING)
    with pytest.raises(UnreadableEvent):
        await anext(store.pages(skip_unknown=True, after=3))


async def test_everything_is_read_in_order_from_any_position(store: EventStore) -> None:
    for number in range(5):
        await store.append("account", f"a{number}", [Opened(), Deposited()])
        await store.append("journal", "j", Noted())
    everything = await read_all(store)
    assert [event.position for event in everything] == list(range(1, 16))
    for after in range(15):
        assert await read_all(store, after=after) == everything[after:]


async def test_reading_from_the_very_end_finds_nothing_and_ends(store: EventStore) -> None:
    assert await read_all(store) == []
    pages = [page async for page in store.pages()]
    assert [(page.events, page.position, page.pending) for page in pages] == [([], 0, 0)]
    await store.append("account", "a1", [Opened(), Deposited()])
    pages = [page async for page in store.pages(after=2)]
    assert [(page.events, page.position, page.pending) for page in pages] == [([], 2, 0)]


async def test_pages_are_no_larger_than_asked_for_and_count_down(store: EventStore) -> None:
    for _ in range(5):
        await store.append("account", "a1", [Deposited()] * 20)
    pages = [page async for page in store.pages(max_events=7)]
    assert all(0 < len(page.events) <= 7 for page in pages)
    assert [event.position for page in pages for event in page.events] == list(range(1, 101))
    assert [page.pending for page in pages] == [100 - page.position for page in pages]


@pytest.mark.parametrize("live", [True, False])
async def test_a_position_beyond_the_end_is_another_log(store: EventStore, live: bool) -> None:
    await store.append("account", "a1", Opened())
    with pytest.raises(CorruptLog, match="position 2 is beyond the end"):
        await read_all(store, after=2, live=live)


async def test_reading_a_log_that_is_missing_is_an_error(client: Client, codec: Codec) -> None:
    async with EventStore(client, codec) as store:
        with pytest.raises(StreamMissing, match=codec.subjects.log_stream):
            await read_all(store)


async def test_a_live_reader_gets_what_is_appended_afterwards_in_order(store: EventStore) -> None:
    await store.append("account", "a1", [Deposited()] * 3)
    seen: list[int] = []
    async with aclosing(store.read_all(live=True)) as events, asyncio.TaskGroup() as group:

        async def append() -> None:
            for number in range(50):
                await store.append("account", f"a{number % 7}", [Deposited()] * (1 + number % 3))

        group.create_task(append())
        total = 3 + sum(1 + number % 3 for number in range(50))
        async for event in events:
            seen.append(event.position)
            if len(seen) == total:
                break
    assert seen == list(range(1, total + 1))


async def test_a_live_reader_learns_when_it_has_caught_up(store: EventStore) -> None:
    async with aclosing(store.pages(live=True)) as pages:
        page = await anext(pages)
        assert (page.events, page.position, page.pending) == ([], 0, 0)
        await store.append("account", "a1", Opened())
        page = await anext(pages)
        assert ([event.position for event in page.events], page.pending) == ([1], 0)


async def _consumers(client: Client, codec: Codec) -> int:
    answer = await client.api(f"STREAM.INFO.{codec.subjects.log_stream}")
    count: int = answer["state"]["consumer_count"]
    return count


async def test_no_consumer_stays_behind_however_a_reader_ends(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "a1", [Deposited()] * 5)
    async with aclosing(store.read_all(live=True)) as events:
        await anext(events)
        assert await _consumers(client, codec) == 1
    assert await _consumers(client, codec) == 0

    started = asyncio.Event()

    async def follow() -> None:
        async with aclosing(store.pages(live=True)) as pages:
            async for _ in pages:
                started.set()

    task = asyncio.create_task(follow())
    await started.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert await _consumers(client, codec) == 0

    await read_all(store)
    head = await store.head("account", "a1")
    await forge(client, codec, "a1", 6, payload=b"!", after=head)
    with pytest.raises(UnreadableEvent):
        async for _ in store.pages():
            pass
    assert await _consumers(client, codec) == 0


class Unregistered(Event, subject="account.unregistered"):
    pass


async def test_a_type_that_is_not_registered_is_not_written(store: EventStore) -> None:
    with pytest.raises(UnknownType):
        await store.append("account", "a1", Unregistered())
    assert await store.head("account", "a1") == NOTHING


async def test_a_page_whose_replies_were_lost_is_not_taken_for_complete(
    store: EventStore, client: Client, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account", "a1", [Deposited()] * 10)
    reader, subject = _reader(client, codec), codec.subjects.log("account", "a1")
    take, seen = PageReplies.set_result, 0

    def lossy(page: PageReplies, message: Any) -> None:
        nonlocal seen
        seen += 1
        if seen != 4:
            take(page, message)

    monkeypatch.setattr(PageReplies, "set_result", lossy)
    with pytest.raises(RequestTimeout, match="lost"):
        await anext(reader.pages(subject))
    (page,) = [page async for page in reader.pages(subject)]
    assert len(page) == 10


async def test_a_page_that_never_ends_is_given_up_within_its_bound(
    store: EventStore, client: Client, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account", "a1", Opened())
    monkeypatch.setattr(PageReplies, "set_result", lambda *_: None)
    reader = _reader(client, codec, timeout=0.1)
    with pytest.raises(RequestTimeout, match=r"no complete page of .*account\.a1: .* after 0\.1 s"):
        await anext(reader.pages(codec.subjects.log("account", "a1")))
    assert len(client._answers) == 0


async def test_a_page_that_a_broken_connection_cuts_off_fails_at_once(
    store: EventStore, client: Client, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account", "a1", Opened())
    broken = asyncio.Event()
    monkeypatch.setattr(PageReplies, "set_result", lambda *_: broken.set())
    reading = asyncio.create_task(
        anext(_reader(client, codec).pages(codec.subjects.log("account", "a1")))
    )
    await broken.wait()
    client._answers.fail_all("the connection was lost")
    with pytest.raises(ConnectionLost, match="the connection was lost"):
        await reading


def _reader(client: Client, codec: Codec, timeout: float = 5.0) -> DirectReader:
    return DirectReader(client, codec.subjects.log_stream, timeout=timeout)


async def test_large_events_do_not_make_large_pages(
    store: EventStore, client: Client, codec: Codec
) -> None:
    for _ in range(20):
        await store.append("account", "a1", Deposited(note="x" * 900_000))
    reader = DirectReader(client, codec.subjects.log_stream)
    pages = [page async for page in reader.pages(codec.subjects.log("account", "a1"))]
    assert sum(map(len, pages)) == 20
    assert max(map(len, pages)) < 12
    assert Head.of(pages[-1][-1]).version == 20


async def test_what_the_store_appends_is_read_by_the_pattern(store: EventStore) -> None:
    both = [Append(aggregate="account", aggregate_id=each, events=[Opened()] * 2) for each in "ab"]
    await store.append_all(*both)
    await store.append("account", "a", [Deposited()], expected=2)
    await store.append_all(
        Append(
            aggregate="account",
            aggregate_id="a",
            events=[Deposited()],
            cause=Identity.root(),
            actor="Änne, at the desk",
            authenticated_as="desk",
            command_digest="0123456789abcdef",
            traceparent=f"00-{'a' * 32}-{'b' * 16}-01",
        )
    )
    events = await read_all(store) + await read(store, "a")
    assert len(events) == 6 + 4
    assert {type(event.headers) for event in events} == {EventHeaders}
