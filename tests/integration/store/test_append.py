"""Appending: what is recorded, what is refused, and that a repeat is recorded once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.errors import (
    BatchTooLarge,
    Conflict,
    DuplicateId,
    EventTooLarge,
    InvalidHeader,
    InvalidId,
    InvalidMessage,
    JetStreamError,
    StreamMissing,
    UnknownType,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, format_timestamp
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import Header
from eventstore.messages.types import Command, Event
from eventstore.store.append import ANY, NO_STREAM, Append, AppendResult, Expected
from eventstore.store.head import NOTHING, Head
from eventstore.store.store import EventStore
from tests.conftest import StartServer, settings_for
from tests.connection import SOON
from tests.integration.ledger import (
    FAST,
    Deposited,
    Noted,
    Opened,
    declare_log,
    fixed,
    jetstream,
    last_position,
    ledger,
    read,
    until_forgotten,
)

ROUNDS = 50


def to(aggregate_id: str, *events: Event | NewEvent, expected: Expected = ANY) -> Append:
    return Append(aggregate="account", aggregate_id=aggregate_id, events=events, expected=expected)


async def test_one_event_becomes_version_1_and_has_its_position(store: EventStore) -> None:
    appended = await store.append("account", "a1", Opened(), expected=NO_STREAM)

    (event,) = await read(store, "a1")
    assert (appended.version, event.version) == (1, 1)
    assert appended.positions == (event.position,)
    assert appended.position == event.position
    assert appended.event_ids == (event.id,)
    assert appended.head == Head.after(event) == await store.head("account", "a1")
    assert not appended.duplicate


async def test_several_events_take_versions_and_positions_one_after_another(
    store: EventStore,
) -> None:
    await store.append("account", "a1", Opened())
    appended = await store.append("account", "a1", [Deposited(amount=n) for n in range(5)])

    events = (await read(store, "a1"))[1:]
    assert [event.version for event in events] == [2, 3, 4, 5, 6]
    assert [event.data for event in events] == [Deposited(amount=n) for n in range(5)]
    assert appended.positions == tuple(event.position for event in events) == (2, 3, 4, 5, 6)
    assert appended.event_ids == tuple(event.id for event in events)
    assert appended.head == Head.after(events[-1])


async def test_several_aggregates_are_recorded_together_each_with_its_own_result(
    store: EventStore,
) -> None:
    await store.append("account", "a2", Opened())
    first, second, third = await store.append_all(
        to("a1", Opened(), Deposited(), expected=NO_STREAM),
        to("a2", Deposited(), expected=1),
        Append(aggregate="journal", aggregate_id="a1", events=[Noted(), Noted()]),
    )

    assert (first.positions, second.positions, third.positions) == ((2, 3), (4,), (5, 6))
    assert (first.version, second.version, third.version) == (2, 2, 2)
    for appended in (first, second, third):
        assert await store.head(appended.aggregate, appended.aggregate_id) == appended.head


async def test_a_conflict_of_one_aggregate_leaves_the_others_unrecorded(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "a2", Opened())
    with pytest.raises(Conflict) as conflict:
        await store.append_all(
            to("a1", Opened(), expected=NO_STREAM), to("a2", Opened(), expected=NO_STREAM)
        )
    assert conflict.value.aggregate_id == "a2"
    assert await store.head("account", "a1") == NOTHING
    assert await last_position(client, codec) == 1


async def test_a_stored_message_has_the_standard_headers_and_nothing_else(
    store: EventStore, client: Client, codec: Codec
) -> None:
    cause = Identity.root()
    appended = await store.append("account", "a1", Deposited(amount=3), cause=cause, actor="ann")

    stored = await jetstream(client).get_msg(codec.subjects.log_stream, appended.position)
    headers = dict(stored.headers or {})
    assert stored.subject == f"{codec.domain}.log.account.a1"
    assert stored.data == b'{"amount":3,"note":""}'
    assert headers.pop("X-Event-ID") == appended.event_ids[0]
    assert headers.pop("Nats-Msg-Id") == appended.event_ids[0]
    assert headers.pop("X-Correlation-ID") == cause.correlation_id
    assert headers.pop("X-Causation-ID") == cause.id
    assert headers.pop("X-Timestamp").endswith("Z")
    assert headers.pop("X-Chain") == appended.head.chain
    assert headers == {
        "X-Event-Type": "Deposited",
        "X-Aggregate-ID": "a1",
        "X-Aggregate-Version": "1",
        "X-Schema-Version": "1",
        "X-Domain": codec.domain,
        "X-Actor": "ann",
        "X-Command-Digest": "none",
        "Content-Type": "application/json",
        "Nats-Expected-Last-Subject-Sequence": "0",
    }


async def test_a_batch_guards_the_first_message_of_each_subject_only(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append_all(to("a1", Opened(), Deposited()), to("a2", Opened()))

    stream = codec.subjects.log_stream
    stored = [await jetstream(client).get_msg(stream, position) for position in (1, 2, 3)]
    headers = [dict(message.headers or {}) for message in stored]
    assert [h.get("Nats-Expected-Last-Subject-Sequence") for h in headers] == ["0", None, "0"]
    assert [h["Nats-Batch-Sequence"] for h in headers] == ["1", "2", "3"]
    assert [h.get("Nats-Batch-Commit") for h in headers] == [None, None, "1"]
    assert len({h["Nats-Batch-Id"] for h in headers}) == 1
    for position, each in enumerate(headers, start=1):
        assert each["Nats-Msg-Id"] == each["X-Event-ID"], position


async def test_the_chain_of_what_is_stored_can_be_recomputed(
    store: EventStore, client: Client, codec: Codec
) -> None:
    await store.append("account", "a1", Opened())
    await store.append("account", "a1", [Deposited(amount=n) for n in range(3)])
    await store.append("account", "a1", Deposited(note="ünïcode"), expected=4, actor="jürg")

    previous = GENESIS
    for version in range(1, 6):
        stream = codec.subjects.log_stream
        stored = await jetstream(client).get_msg(stream, version, direct=True)
        headers = dict(stored.headers or {})
        assert headers[Header.AGGREGATE_VERSION] == str(version)
        previous = chain_value(previous, stored.subject or "", headers, stored.data or b"")
        assert headers[Header.CHAIN] == previous


async def test_an_event_keeps_its_own_time_actor_and_trace(store: EventStore) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    appended = await store.append("account", "a1", Opened())
    (event,) = await read(store, "a1")
    own = NewEvent(data=Deposited(), timestamp=event.time, actor="eve", traceparent=trace)
    await store.append("account", "a1", own, expected=appended.head, actor="ann")

    _, second = await read(store, "a1")
    assert second.envelope.timestamp == format_timestamp(event.time)
    assert (second.envelope.actor, second.envelope.traceparent) == ("eve", trace)


@pytest.mark.parametrize("expected", [1, 0, NO_STREAM, 3, 17, -1])
@pytest.mark.parametrize("count", [1, 2])
async def test_a_wrong_version_is_a_conflict_that_names_both(
    store: EventStore, client: Client, codec: Codec, expected: Any, count: int
) -> None:
    await store.append("account", "a1", [Opened(), Deposited()])
    with pytest.raises(Conflict) as conflict:
        await store.append("account", "a1", [Deposited()] * count, expected=expected)
    assert conflict.value.expected == (0 if expected is NO_STREAM else expected)
    assert conflict.value.actual == 2
    assert (conflict.value.aggregate, conflict.value.aggregate_id) == ("account", "a1")
    assert await last_position(client, codec) == 2


async def test_every_right_expectation_is_met(store: EventStore) -> None:
    head = (await store.append("account", "a1", Opened(), expected=NO_STREAM)).head
    head = (await store.append("account", "a1", Deposited(), expected=head)).head
    head = (await store.append("account", "a1", Deposited(), expected=2)).head
    head = (await store.append("account", "a1", Deposited(), expected=ANY)).head
    assert head.version == 4
    assert (await store.append("account", "a2", Opened(), expected=0)).version == 1
    assert (await store.append("account", "a3", Opened(), expected=NOTHING)).version == 1


async def test_a_stale_head_is_a_conflict(store: EventStore) -> None:
    stale = (await store.append("account", "a1", Opened())).head
    await store.append("account", "a1", Deposited())
    with pytest.raises(Conflict) as conflict:
        await store.append("account", "a1", Deposited(), expected=stale)
    assert (conflict.value.expected, conflict.value.actual) == (1, 2)


async def test_a_head_of_another_log_is_a_conflict_and_not_an_endless_search(
    store: EventStore,
) -> None:
    await store.append("account", "a1", Opened())
    alien = Head(100_000, 7, "0" * 64, "")
    with pytest.raises(Conflict) as conflict:
        await store.append("account", "a1", Deposited(), expected=alien)
    assert conflict.value.actual is None


@pytest.mark.parametrize("count", [1, 3])
async def test_of_two_concurrent_writers_exactly_one_wins(
    store: EventStore, settings: Settings, codec: Codec, count: int
) -> None:
    async with connect(settings) as other_client, EventStore(other_client, codec) as other:
        head = NOTHING
        for _ in range(ROUNDS):
            outcomes = await asyncio.gather(
                *(
                    each.append("account", "a1", [Deposited()] * count, expected=head)
                    for each in (store, other)
                ),
                return_exceptions=True,
            )
            (won,) = [outcome for outcome in outcomes if isinstance(outcome, AppendResult)]
            (lost,) = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert isinstance(lost, Conflict), lost
            head = won.head
    events = await read(store, "a1")
    assert [event.version for event in events] == list(range(1, ROUNDS * count + 1))


async def test_nothing_is_lost_if_eight_writers_append_to_any_version(
    store: EventStore, settings: Settings, codec: Codec
) -> None:
    async def write(writer: int) -> list[str]:
        async with connect(settings) as own_client, EventStore(own_client, codec) as own:
            appended = [
                await own.append("account", "a1", [Deposited(amount=writer)] * (1 + number % 2))
                for number in range(10)
            ]
        return [event_id for each in appended for event_id in each.event_ids]

    ids = [event_id for own in await asyncio.gather(*map(write, range(8))) for event_id in own]
    stored = await read(store, "a1")
    assert sorted(event.id for event in stored) == sorted(ids)
    assert len(ids) == 8 * 15


EXPECTATIONS: Sequence[tuple[str, Expected]] = [
    ("any", ANY),
    ("version", 1),
    ("head", NOTHING),  # stands for the head at the time
]


def _expectation(name: str, plain: Expected, head: Head) -> Expected:
    return head if name == "head" else plain


@pytest.mark.parametrize(("name", "plain"), EXPECTATIONS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("window", ["inside", "after"])
async def test_the_same_append_repeated_is_recorded_once_with_the_same_result(
    client: Client, codec: Codec, name: str, plain: Expected, count: int, window: str
) -> None:
    await declare_log(client, codec, FAST if window == "after" else None)
    async with EventStore(client, codec) as store:
        head = (await store.append("account", "a1", Opened())).head
        events = [fixed() for _ in range(count)]
        expected = _expectation(name, plain, head)
        first = await store.append("account", "a1", events, expected=expected)
        if window == "after":
            await until_forgotten(client, codec)
        again = await store.append("account", "a1", events, expected=expected)
        await store.append("account", "a1", [Deposited(), Deposited()])
        later = await store.append("account", "a1", events, expected=expected)

        assert not first.duplicate
        assert again.duplicate
        assert later.duplicate
        for repeat in (again, later):
            assert repeat.head == first.head
            assert repeat.positions == first.positions
            assert repeat.event_ids == first.event_ids
        assert len(await read(store, "a1")) == 1 + count + 2


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("expected", [NO_STREAM, NOTHING, 0, ANY])
async def test_events_that_follow_from_a_cause_are_recorded_once(
    store: EventStore, count: int, expected: Expected
) -> None:
    cause = Identity.root()
    events = [Opened(), Deposited()][:count]
    first = await store.append("account", "a1", events, expected=expected, cause=cause)
    again = await store.append("account", "a1", events, expected=expected, cause=cause)
    assert again.duplicate
    assert again.event_ids == first.event_ids
    stored = await read(store, "a1")
    assert [event.causation_id for event in stored] == [cause.id] * count


async def test_a_repeat_over_several_aggregates_is_recorded_once(store: EventStore) -> None:
    appends = (to("a1", fixed(), fixed(), expected=NO_STREAM), to("a2", fixed()))
    first = await store.append_all(*appends)
    await store.append("account", "a2", Deposited())
    again = await store.append_all(*appends)
    assert [each.head for each in again] == [each.head for each in first]
    assert all(each.duplicate for each in again)


async def test_an_id_used_in_another_aggregate_is_refused(
    store: EventStore, client: Client, codec: Codec
) -> None:
    event = fixed()
    await store.append("account", "a1", event)
    for events in ([event], [fixed(), event], [event, fixed()]):
        with pytest.raises(DuplicateId):
            await store.append("account", "a2", events)
    with pytest.raises(DuplicateId):
        await store.append_all(to("a1", event), to("a2", fixed()))
    assert await last_position(client, codec) == 1


@pytest.mark.parametrize("followed", [True, False])
@pytest.mark.parametrize("expected", [NO_STREAM, ANY])
async def test_a_repeat_with_more_events_than_before_is_refused(
    store: EventStore, client: Client, codec: Codec, followed: bool, expected: Expected
) -> None:
    events = [fixed(), fixed()]
    await store.append("account", "a1", events, expected=NO_STREAM)
    if followed:
        await store.append("account", "a1", Deposited())
    with pytest.raises(DuplicateId):
        await store.append("account", "a1", [*events, fixed()], expected=expected)
    assert await last_position(client, codec) == 2 + followed


@pytest.mark.parametrize("count", [1, 2])
async def test_a_repeat_is_recognised_if_what_answers_reads_lags_behind(
    client: Client, codec: Codec, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    await declare_log(client, codec, FAST)
    async with EventStore(client, codec) as store:
        events = [fixed() for _ in range(count)]
        first = await store.append("account", "a1", events)
        await store.append("account", "a1", Deposited())
        await until_forgotten(client, codec)

        async def nothing_yet(*_: object, **__: object) -> Any:
            return [], 0

        monkeypatch.setattr(DirectReader, "_ask_page", nothing_yet)
        again = await store.append("account", "a1", events)
    assert again.duplicate
    assert again.head == first.head


@pytest.mark.parametrize("aggregate_id", ["a.b", "", "x" * 129, "a b", "*", ">", "ä", "a\n"])
async def test_an_aggregate_id_that_is_no_single_token_is_refused(
    store: EventStore, aggregate_id: str
) -> None:
    with pytest.raises(InvalidId) as refusal:
        await store.append("account", aggregate_id, Opened())
    assert repr(aggregate_id) in str(refusal.value)
    with pytest.raises(InvalidId):
        await store.head("account", aggregate_id)
    with pytest.raises(InvalidId):
        await read(store, aggregate_id)


async def test_an_aggregate_id_of_128_characters_is_taken(store: EventStore) -> None:
    assert (await store.append("account", "x" * 128, Opened())).version == 1


class Open(Command, subject="account.open", creates=True):
    owner: str = "ann"


class Unregistered(Event, subject="account.unregistered"):
    pass


class Double(Event, subject="account.opened"):
    """What has an event's subject is not yet that event."""


Double.__name__ = "Opened"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    "stranger",
    [Open(), Unregistered(), Double(), Opened, "opened", b"{}", {"owner": "ann"}, None],
    ids=repr,
)
async def test_what_is_no_event_of_the_domain_is_refused_and_nothing_recorded(
    client: Client, domain_name: str, stranger: Any, wrapped: bool
) -> None:
    codec = Codec(domain_name, [Open], [Opened, Noted])
    await declare_log(client, codec)
    event = NewEvent(data=stranger) if wrapped else stranger
    async with EventStore(client, codec) as store:
        for events in ([event], [Opened(), event]):
            with pytest.raises(InvalidMessage):
                await store.append("account", "a1", events)
        with pytest.raises(InvalidMessage):
            await store.append_all(to("a1", Opened()), to("a2", event))
    assert await last_position(client, codec) == 0


async def test_what_makes_no_sense_is_refused_and_nothing_recorded(
    store: EventStore, client: Client, codec: Codec
) -> None:
    event = fixed()
    with pytest.raises(UnknownType, match="unknown aggregate 'house'"):
        await store.append("house", "h1", Opened())
    with pytest.raises(InvalidMessage, match="Noted is not an event of account"):
        await store.append("account", "a1", Noted())
    with pytest.raises(InvalidMessage, match="no events"):
        await store.append("account", "a1", [])
    with pytest.raises(InvalidMessage, match="at least one aggregate"):
        await store.append_all()
    with pytest.raises(InvalidMessage, match="each only once"):
        await store.append_all(to("a1", Opened()), to("a1", Deposited()))
    with pytest.raises(InvalidId, match="repeats"):
        await store.append("account", "a1", [event, event])
    with pytest.raises(InvalidId, match="repeats"):
        await store.append_all(to("a1", event), to("a2", event))
    with pytest.raises(InvalidHeader, match="X-Actor"):
        await store.append("account", "a1", Opened(), actor="line\nbreak")
    assert await last_position(client, codec) == 0


async def test_an_event_of_exactly_the_servers_limit_is_recorded_and_one_more_byte_refused(
    start_server: StartServer, codec: Codec
) -> None:
    server = await start_server(max_payload=8_192)
    async with connect(settings_for(server.url, codec.domain)) as client:
        await declare_log(client, codec)
        async with EventStore(client, codec) as store:
            with pytest.raises(EventTooLarge) as refusal:
                await store.append("account", "a1", Deposited(note="x" * 9_000))
            spare = 9_000 - (refusal.value.size - refusal.value.limit)
            assert refusal.value.limit == 8_192
            assert refusal.value.event_type == "Deposited"
            with pytest.raises(EventTooLarge):
                await store.append("account", "a1", Deposited(note="x" * (spare + 1)))
            with pytest.raises(EventTooLarge):
                await store.append("account", "a1", [Opened(), Deposited(note="x" * 9_000)])

            appended = await store.append("account", "a1", Deposited(note="x" * spare))
            assert appended.position == 1
            assert client.is_connected


async def test_a_thousand_events_are_one_append_and_one_more_is_refused(
    store: EventStore, client: Client, codec: Codec
) -> None:
    with pytest.raises(BatchTooLarge) as refusal:
        await store.append("account", "a1", [Deposited()] * 1_001)
    assert (refusal.value.count, refusal.value.limit) == (1_001, 1_000)
    assert await last_position(client, codec) == 0

    events = [fixed(Deposited(amount=n)) for n in range(1_000)]
    appended = await store.append("account", "a1", events, expected=NO_STREAM)
    assert appended.positions == tuple(range(1, 1_001))
    assert (await store.append("account", "a1", events, expected=NO_STREAM)).duplicate
    assert [event.version for event in await read(store, "a1")] == list(range(1, 1_001))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("expected", [ANY, NO_STREAM, 3])
async def test_a_missing_stream_is_named_immediately(
    client: Client, codec: Codec, count: int, expected: Expected
) -> None:
    async with EventStore(client, codec) as store, asyncio.timeout(SOON):
        with pytest.raises(StreamMissing, match=codec.subjects.log_stream):
            await store.append("account", "a1", [Opened()] * count, expected=expected)
        with pytest.raises(StreamMissing):
            await store.head("account", "a1")
        with pytest.raises(StreamMissing):
            await read(store, "a1")


async def test_a_stream_without_atomic_batches_refuses_them_clearly(
    client: Client, codec: Codec
) -> None:
    await client.api(
        f"STREAM.CREATE.{codec.subjects.log_stream}",
        {
            "name": codec.subjects.log_stream,
            "subjects": [codec.subjects.all_log],
            "allow_direct": True,
        },
    )
    async with EventStore(client, codec) as store, asyncio.timeout(SOON):
        with pytest.raises(JetStreamError, match="atomic publish is disabled") as refusal:
            await store.append("account", "a1", [Opened(), Deposited()])
        assert refusal.value.err_code == 10174
        assert await last_position(client, codec) == 0


Step = tuple[str, int, str, bool]  # aggregate id, events, expectation, sent again

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["a1", "a2", "a3"]),
        st.integers(1, 3),
        st.sampled_from(["any", "none", "right", "low", "high", "head", "stale head"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@examples(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_any_sequence_of_appends_leads_to_what_a_plain_model_predicts(
    settings: Settings, steps: list[Step]
) -> None:
    asyncio.run(_play(settings, steps))


class Model:
    """What the log must be: the ids of each aggregate's events, and the head after each append."""

    def __init__(self) -> None:
        self.ids: dict[str, list[str]] = {}
        self.heads: dict[str, list[Head]] = {}

    def expectation(self, aggregate_id: str, kind: str) -> tuple[Expected, bool]:
        """An expectation of that kind, and whether it is met."""
        version = len(self.ids.get(aggregate_id, []))
        heads = self.heads.get(aggregate_id, [NOTHING])
        return {
            "any": (ANY, True),
            "none": (NO_STREAM, version == 0),
            "right": (version, True),
            "low": (version - 1, False),
            "high": (version + 1, False),
            "head": (heads[-1], True),
            "stale head": (heads[0], version == 0),
        }[kind]  # type: ignore[return-value]  # of mixed, but fitting types

    def record(self, appended: AppendResult) -> None:
        key = appended.aggregate_id
        self.ids.setdefault(key, []).extend(appended.event_ids)
        self.heads.setdefault(key, [NOTHING]).append(appended.head)


async def _play(settings: Settings, steps: list[Step]) -> None:
    codec = ledger(f"p{Identity.root().id[:8]}")
    model = Model()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings))
        await declare_log(client, codec)
        store = await stack.enter_async_context(EventStore(client, codec))
        for aggregate_id, count, kind, again in steps:
            events = [fixed() for _ in range(count)]
            expected, met = model.expectation(aggregate_id, kind)
            if not met:
                with pytest.raises(Conflict):
                    await store.append("account", aggregate_id, events, expected=expected)
                continue
            appended = await store.append("account", aggregate_id, events, expected=expected)
            model.record(appended)
            if again:
                repeat = await store.append("account", aggregate_id, events, expected=expected)
                assert repeat.duplicate
                assert repeat.head == appended.head
        for aggregate_id, ids in model.ids.items():
            stored = await read(store, aggregate_id)
            assert [event.id for event in stored] == ids
            assert await store.head("account", aggregate_id) == model.heads[aggregate_id][-1]
        total = sum(map(len, model.ids.values()))
        assert await last_position(client, codec) == total
        await client.api(f"STREAM.DELETE.{codec.subjects.log_stream}")
