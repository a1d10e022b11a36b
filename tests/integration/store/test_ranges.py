"""Ranges: parts of an aggregate and of the log, forwards and backwards, at the cost of the part."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventstore import ANY, NO_STREAM, STREAM_EXISTS
from eventstore.client.client import Client
from eventstore.errors import (
    Conflict,
    CorruptLog,
    InvalidId,
    InvalidMessage,
    InvalidRange,
    UnknownType,
    UnreadableEvent,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, new_id
from eventstore.messages.events import NewEvent, RecordedEvent
from eventstore.messages.opaque import OpaqueEvent
from eventstore.store import Append, EventStore, Head
from tests.integration.ledger import Deposited, Noted, Opened, fixed, jetstream

MANY = 700


async def versions(reading: AsyncGenerator[RecordedEvent, None]) -> list[int]:
    return [event.version async for event in reading]


async def positions(reading: AsyncGenerator[RecordedEvent, None]) -> list[int]:
    return [event.position async for event in reading]


class Requests:
    """Counts the direct gets of a store."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = self.messages = 0
        for name in ("page", "last_of_each", "last", "at", "leader_last", "leader_next"):
            monkeypatch.setattr(DirectReader, name, self._counted(getattr(DirectReader, name)))

    def _counted(self, method: Any) -> Any:
        async def counted(*args: Any, **options: Any) -> Any:
            self.count += 1
            found = await method(*args, **options)
            if isinstance(found, tuple):
                self.messages += len(found[0])
            return found

        return counted


@pytest.fixture
async def large(store: EventStore) -> EventStore:
    """Aggregate `a` has 700 events; others are between, of two kinds."""
    for number in range(MANY // 100):
        deposits = [Deposited(amount=100 * number + n) for n in range(100)]
        await store.append("account", "a", deposits)
        await store.append("account", f"b{number}", [Deposited()] * (number % 3 + 1))
        await store.append("journal", "j", Noted(text=str(number)))
    return store


@pytest.fixture
async def fresh(
    large: EventStore, client: Client, codec: Codec
) -> AsyncGenerator[EventStore, None]:
    """A store that knows nothing of the log yet."""
    async with EventStore(client, codec) as store:
        yield store


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    ("after", "until", "limit"),
    [
        (0, None, None),
        (0, None, 1),
        (0, 3, None),
        (300, None, 5),
        (299, 301, None),
        (699, None, None),
        (700, None, None),
        (900, None, None),
        (5, 5, None),
        (100, 600, 300),
        (0, 9_999, None),
        (0, 0, None),
    ],
)
async def test_a_range_of_versions(
    fresh: EventStore, after: int, until: int | None, limit: int | None, backwards: bool
) -> None:
    wanted = [
        n for n in range(1, MANY + 1) if after < n <= (until or (MANY if until is None else 0))
    ]
    wanted = (wanted[::-1] if backwards else wanted)[:limit]
    options: dict[str, Any] = {"after": after, "until": until, "limit": limit}
    read = [e async for e in fresh.read("account", "a", backwards=backwards, **options)]
    assert [event.version for event in read] == wanted
    assert [event.data for event in read] == [Deposited(amount=n - 1) for n in wanted]


async def test_its_cost_is_that_of_what_is_read(
    fresh: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(monkeypatch)
    assert await versions(fresh.read("account", "a", backwards=True, limit=2)) == [700, 699]
    assert requests.count <= 6
    assert requests.messages <= 12
    requests.count = requests.messages = 0
    assert await versions(fresh.read("account", "a", after=650, limit=2)) == [651, 652]
    assert requests.count <= 8
    assert requests.messages <= 256
    requests.count = requests.messages = 0
    assert await versions(fresh.read("account", "a", until=2)) == [1, 2]
    assert (requests.count, requests.messages) == (1, 2)


async def test_the_last_event_takes_one_get(
    fresh: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = Requests(monkeypatch)
    last = await fresh.last("account", "a")
    assert last is not None
    assert (last.version, last.data) == (700, Deposited(amount=699))
    assert requests.count == 2  # it is verified that it follows the one before
    assert await fresh.last("account", "a") == last
    assert requests.count == 3
    await fresh.append("account", "a", Opened(), expected=Head.after(last))
    last = await fresh.last("account", "a")
    assert last is not None
    assert (last.version, last.data) == (701, Opened())
    assert await fresh.last("account", "a", leader=True) == last


async def test_an_aggregate_that_does_not_exist(store: EventStore) -> None:
    assert await store.last("account", "none") is None
    assert await store.find("account", "none", new_id()) is None
    assert await versions(store.read("account", "none", backwards=True)) == []
    assert await versions(store.read("account", "none", after=1000)) == []
    with pytest.raises(UnknownType):
        await store.last("acount", "none")


async def test_foreign_messages_are_passed_over(
    fresh: EventStore, client: Client, codec: Codec
) -> None:
    (event,) = [e async for e in fresh.read("account", "a", after=349, until=350)]
    forged = {name: value for name, value in event.headers.items() if "Nats-" not in name}
    forged |= {"X-Aggregate-Version": "701", "Nats-Msg-Id": new_id()}
    forged["X-Event-ID"] = forged["Nats-Msg-Id"]
    for subject in (codec.subjects.log("account", "a"), codec.subjects.log("account", "b1")):
        await jetstream(client).publish(subject, b"{}", headers=forged)
    await fresh.append("account", "a", Opened())
    for last in (await fresh.last("account", "a"), await fresh.last("account", "a", leader=True)):
        assert last is not None
        assert (last.version, last.data) == (701, Opened())
    backwards = fresh.read("account", "a", backwards=True, limit=3)
    assert await versions(backwards) == [701, 700, 699]
    last = await fresh.last("account", "b1")
    assert last is not None
    assert last.version == 2
    assert await versions(fresh.read("account", "a", after=690)) == list(range(691, 702))


@pytest.mark.parametrize("forged_version", ["5", "298", "301", "999", "x"])
async def test_foreign_messages_in_the_way_of_a_search_cost_time_only(
    store: EventStore, client: Client, codec: Codec, forged_version: str
) -> None:
    await store.append("account", "a", [Deposited()] * 300)
    (event,) = [e async for e in store.read("account", "a", after=299)]
    own = {name: value for name, value in event.headers.items() if "Nats-" not in name}
    for _ in range(30):
        forged = {**own, "X-Event-ID": new_id(), "X-Aggregate-Version": forged_version}
        await jetstream(client).publish(codec.subjects.log("account", "a"), b"{}", headers=forged)
    await store.append("account", "a", [Deposited()] * 300)
    async with EventStore(client, codec) as fresh:
        backwards = await versions(fresh.read("account", "a", backwards=True, limit=400))
        assert backwards == list(range(600, 200, -1))
        middle = fresh.read("account", "a", backwards=True, after=250, until=310)
        assert await versions(middle) == list(range(310, 250, -1))
        for after in (280, 299, 300, 330):
            some = await versions(fresh.read("account", "a", after=after, limit=40))
            assert some == list(range(after + 1, after + 41))


async def test_a_range_may_begin_with_a_head(store: EventStore) -> None:
    appended = await store.append("account", "a", [Deposited()] * 3)
    await store.append("account", "a", [Deposited()] * 300)
    head = appended.head
    assert await versions(store.read("account", "a", after=head, limit=2)) == [4, 5]
    assert await versions(store.read("account", "a", after=head, until=4)) == [4]
    newest = await versions(store.read("account", "a", after=head, backwards=True))
    assert newest == list(range(303, 3, -1))
    with pytest.raises(InvalidRange):
        await versions(store.read("account", "a", after=head, until=2))


async def test_an_event_of_an_unknown_type_is_read_as_opaque_if_asked(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "a", [Opened(), Deposited(amount=5)])
    older = Codec(codec.domain, (), (Opened, Noted))
    async with EventStore(client, older) as other:
        for backwards in (False, True):
            with pytest.raises(UnreadableEvent, match="Deposited"):
                await versions(other.read("account", "a", backwards=backwards))
            read = other.read("account", "a", backwards=backwards, opaque=True)
            found = {event.version: event.data async for event in read}
            assert found == {1: Opened(), 2: _opaque(b'{"amount":5,"note":""}')}
            everything = other.read_all(backwards=backwards, opaque=True)
            assert {event.version: event.data async for event in everything} == found
        with pytest.raises(UnreadableEvent, match="Deposited"):
            await other.last("account", "a")
        assert await versions(other.read_all(types=[Opened])) == [1]


def _opaque(payload: bytes) -> OpaqueEvent:
    return OpaqueEvent(type="Deposited", payload=payload, content_type="application/json")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"limit": 3},
        {"after": 700, "limit": 300},
        {"after": 10, "until": 12},
        {"until": 400},
        {"aggregate": "journal"},
        {"aggregate": "journal", "limit": 2},
        {"aggregate": "account", "after": 300, "until": 420},
        {"types": ["Noted"]},
        {"types": [Noted], "limit": 2},
        {"types": [Noted, "Opened"], "until": 500},
    ],
)
async def test_a_range_of_the_log(
    fresh: EventStore, options: dict[str, Any], backwards: bool
) -> None:
    everything = [event async for event in fresh.read_all()]
    names = {each if isinstance(each, str) else each.__name__ for each in options.get("types", ())}
    wanted = [
        event.position
        for event in everything
        if options.get("after", 0) < event.position <= options.get("until", 10_000)
        and options.get("aggregate") in (None, event.aggregate)
        and (not names or event.type in names)
    ]
    wanted = (wanted[::-1] if backwards else wanted)[: options.get("limit")]
    assert len(wanted) > 1
    assert await positions(fresh.read_all(backwards=backwards, **options)) == wanted


async def test_a_page_takes_one_request(fresh: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    end, found, after = await fresh.log_end(), [], 0
    requests = Requests(monkeypatch)
    first = await fresh.read_page(max_events=10)
    assert (requests.count, requests.messages) == (1, 10)
    assert (len(first.events), first.position) == (10, 10)
    while (page := await fresh.read_page(after=after)).events:
        found += [event.position for event in page.events]
        after = page.position
    assert found == list(range(1, end + 1))
    assert (after, page.pending) == (end, 0)


async def test_live_reading_ends_at_its_bounds(store: EventStore) -> None:
    await store.append("account", "a", [Opened()] * 3)
    assert await positions(store.read_all(live=True, limit=2)) == [1, 2]
    assert await positions(store.read_all(live=True, until=3)) == [1, 2, 3]
    assert await positions(store.read_all(live=True, aggregate="account", limit=3)) == [1, 2, 3]


async def test_an_event_is_found_by_its_id(store: EventStore) -> None:
    new = fixed(Opened())
    assert new.identity is not None
    await store.append("account", "a", [Deposited(), new, Deposited()])
    found = await store.find("account", "a", new.identity.id)
    assert found is not None
    assert (found.version, found.data) == (2, Opened())
    assert await store.find("account", "b", new.identity.id) is None
    assert await store.find("account", "a", new_id()) is None
    with pytest.raises(InvalidId):
        await store.find("account", "a", "no id")


async def test_events_have_the_time_at_which_the_server_stored_them(store: EventStore) -> None:
    old = NewEvent(data=Opened(), timestamp=datetime(2000, 1, 1, tzinfo=UTC))
    before = datetime.now(UTC) - timedelta(seconds=1)
    await store.append("account", "a", old)
    last = await store.last("account", "a", leader=True)
    (read,) = [event async for event in store.read("account", "a")]
    (read_all,) = [event async for event in store.read_all()]
    assert last == read == read_all
    assert read.stored_at is not None
    assert before < read.stored_at < datetime.now(UTC) + timedelta(seconds=1)
    assert read.time == datetime(2000, 1, 1, tzinfo=UTC)


async def test_what_is_expected_of_an_aggregate(store: EventStore) -> None:
    with pytest.raises(Conflict, match="was expected to exist, but has no events"):
        await store.append("account", "a", Opened(), expected=STREAM_EXISTS)
    await store.append("account", "a", Opened(), expected=NO_STREAM)
    await store.append("account", "a", Deposited(), expected=STREAM_EXISTS)
    await store.append("account", "a", Deposited(), expected=ANY)
    with pytest.raises(Conflict):
        await store.append("account", "a", Opened(), expected=NO_STREAM)
    for bad in (None, "any"):
        with pytest.raises(InvalidMessage, match="cannot be expected"):
            await store.append("account", "a", Opened(), expected=bad)  # type: ignore[arg-type]
    assert await store.log_end() == 3


async def test_an_existing_aggregate_may_be_behind_others_events(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "a", Opened())
    async with EventStore(client, codec) as other:
        await other.append("account", "a", Deposited())
    again = await store.append("account", "a", Deposited(), expected=STREAM_EXISTS)
    assert again.version == 3
    repeated = Identity.root()
    new = NewEvent(data=Deposited(), identity=repeated)
    first = await store.append("account", "a", new, expected=STREAM_EXISTS)
    second = await store.append("account", "a", new, expected=STREAM_EXISTS)
    assert (second.positions, second.duplicate) == (first.positions, True)


@given(order=st.permutations(["a", "b", "c", "d"]), counts=st.lists(st.integers(1, 3), min_size=4))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_the_log_has_the_given_order(
    store: EventStore, order: list[str], counts: list[int]
) -> None:
    begin = await store.log_end()
    results = await store.append_all(
        *(
            Append(aggregate="account", aggregate_id=each, events=[Deposited()] * count)
            for each, count in zip(order, counts, strict=False)
        )
    )
    recorded = [event.aggregate_id async for event in store.read_all(after=begin)]
    assert recorded == [
        each for each, count in zip(order, counts, strict=False) for _ in range(count)
    ]
    given = [position for result in results for position in result.positions]
    assert given == list(range(begin + 1, begin + 1 + len(recorded)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"after": -1}, "after is -1"),
        ({"until": -1}, "until is -1"),
        ({"after": 5, "until": 4}, "until 4 comes before after 5"),
        ({"limit": 0}, "limit is 0: it has to be a whole number from 1"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": 1.5}, "limit is 1.5"),
        ({"limit": True}, "limit is True"),
        ({"after": "1"}, "after is '1'"),
    ],
)
async def test_what_is_no_range_is_refused(
    store: EventStore, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidRange, match=text):
        await versions(store.read("account", "a", **options))
    with pytest.raises(InvalidRange, match=text):
        await positions(store.read_all(**options))


async def test_more_that_is_no_range(store: EventStore) -> None:
    with pytest.raises(InvalidRange, match="live"):
        await positions(store.read_all(live=True, backwards=True))
    wrong: Any
    for wrong in ("Opened", Opened):
        with pytest.raises(InvalidRange, match="give a list"):
            await positions(store.read_all(types=wrong))
    with pytest.raises(InvalidRange):
        await store.read_page(after=-1)
    with pytest.raises(InvalidRange):
        await store.read_page(max_events=0)
    with pytest.raises(UnknownType):
        await positions(store.read_all(aggregate="acount"))
    for backwards in (False, True):
        with pytest.raises(CorruptLog, match="beyond the end"):
            await positions(store.read_all(after=9, limit=1, backwards=backwards))
    with pytest.raises(CorruptLog, match="beyond the end"):
        await store.read_page(after=9)
