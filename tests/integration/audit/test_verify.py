"""Verification: every way to tamper with a log, and the findings that report it."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from msgspec.structs import replace

from eventstore.audit import VerifySummary
from eventstore.client.client import Client
from eventstore.errors import InvalidId, StreamMissing, UnknownType
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.headers import Header
from eventstore.store.append import Append
from eventstore.store.log import StoredLog
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited, Noted, Opened
from tests.integration.tampering import (
    Tamper,
    changed,
    findings,
    moved,
    named,
    ordered,
    plain_stream,
    rechained,
    replace_log,
    stored,
)

OTHER = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def good(store: EventStore) -> None:
    await fill(store)


async def fill(store: EventStore) -> None:
    """Positions: a1 has 1, 3, 4, 5, 8 (versions 1 to 5); a2 has 2 and 6; the journal j has 7."""
    await store.append("account", "a1", Opened(), actor="ann")
    await store.append("account", "a2", Opened())
    await store.append("account", "a1", [Deposited(amount=n) for n in range(3)], actor="ann")
    await store.append_all(
        Append(aggregate="account", aggregate_id="a2", events=[Deposited()]),
        Append(aggregate="journal", aggregate_id="j", events=[Noted()]),
    )
    await store.append("account", "a1", Deposited(amount=9))


async def test_a_good_log_has_no_findings_and_is_summed_up(
    client: Client, codec: Codec, good: None
) -> None:
    summary = VerifySummary()
    assert await findings(client, codec, summary=summary) == []
    assert (summary.events, summary.aggregates, summary.position) == (8, 3, 8)
    assert (summary.total, summary.findings, summary.broken) == (8, 0, 0)
    assert await findings(client, codec, "account", "a1") == []
    assert await findings(client, codec, "journal") == []


async def test_a_copy_without_batches_is_as_good(client: Client, codec: Codec, good: None) -> None:
    await replace_log(client, codec, await stored(client, codec))
    assert await findings(client, codec) == []


# In the copies, positions are 1 to 8 again; a1 has indexes 0, 2, 3, 4 and 7.
WAYS: dict[str, tuple[Tamper, list[tuple[str, int, int | None]]]] = {
    "a byte of a payload": (changed(3, b'{"amount":7}'), [("changed", 4, 3)]),
    "the first event's payload": (changed(0, b'{"owner":"bob"}'), [("changed", 1, 1)]),
    "the last event's payload": (changed(7, b"{}"), [("changed", 8, 5)]),
    "two events of one aggregate": (
        lambda log: changed(4, b"{}")(changed(2, b"{}")(log)),
        [("changed", 3, 2), ("changed", 5, 4)],
    ),
    "two events one after another": (
        lambda log: changed(3, b"{}")(changed(2, b"{}")(log)),
        [("changed", 3, 2), ("changed", 4, 3)],
    ),
    "the actor": (changed(3, X_Actor="eve"), [("changed", 4, 3)]),
    "the actor removed": (changed(3, X_Actor=None), [("changed", 4, 3)]),
    "the time": (changed(3, X_Timestamp="2020-01-01T00:00:00.000000Z"), [("changed", 4, 3)]),
    "the schema version": (
        changed(3, X_Schema_Version="2"),
        [("changed", 4, 3), ("unknown_type", 4, 3)],
    ),
    "the causation": (
        changed(3, X_Causation_ID=OTHER, X_Correlation_ID=OTHER),
        [("changed", 4, 3)],
    ),
    "the chain value itself": (changed(3, X_Chain="f" * 64), [("changed", 4, 3)]),
    "a header that is malformed": (changed(3, X_Timestamp="noon"), [("header", 4, 3)]),
    "a chain value that is malformed": (changed(3, X_Chain="F" * 64), [("header", 4, 3)]),
    "no chain value": (changed(3, X_Chain=None), [("header", 4, 3)]),
    "no version": (changed(3, X_Aggregate_Version=None), [("header", 4, None)]),
    "a malformed version": (changed(3, X_Aggregate_Version="9" * 30), [("header", 4, None)]),
    "no event id": (changed(3, X_Event_ID=None), [("header", 4, 3)]),
    "no aggregate id": (changed(3, X_Aggregate_ID=None), [("header", 4, 3)]),
    "another aggregate id": (changed(3, X_Aggregate_ID="a2"), [("wrong_aggregate", 4, 3)]),
    "an unknown type": (
        changed(3, X_Event_Type="Vanished"),
        [("changed", 4, 3), ("unknown_type", 4, 3)],
    ),
    "one removed in the middle": (ordered(0, 1, 2, 4, 5, 6, 7), [("missing", 4, 4)]),
    "the first removed": (ordered(1, 2, 3, 4, 5, 6, 7), [("missing", 2, 2)]),
    "the last of an aggregate removed": (ordered(0, 1, 2, 3, 4, 5, 6), []),
    "all of an aggregate removed": (ordered(0, 2, 3, 4, 6, 7), []),
    "two swapped": (ordered(0, 1, 3, 2, 4, 5, 6, 7), [("missing", 3, 3)]),
    "one twice": (
        ordered(0, 1, 2, 3, 4, 5, 6, 7, 3),
        [("out_of_order", 9, 3), ("duplicate_id", 9, 3)],
    ),
    "one moved to another aggregate": (
        moved(3, "a2", 5),
        [("missing", 4, 4), ("wrong_aggregate", 6, 3)],
    ),
    "one moved to where its version is the next": (
        moved(2, "a2", 2),
        [("wrong_aggregate", 3, 2), ("missing", 4, 3)],
    ),
    "the chain of another event": (
        lambda log: changed(3, X_Chain=log[5].headers[Header.CHAIN])(log),
        [("changed", 4, 3)],
    ),
    "an id of another event": (
        lambda log: rechained(
            changed(7, X_Event_ID=log[1].headers[Header.EVENT_ID], X_Causation_ID=OTHER)(log)
        ),
        [("duplicate_id", 8, 5)],
    ),
    "versions with a gap, and whole chains": (
        lambda log: rechained(changed(7, X_Aggregate_Version="7")(log)),
        [("version_gap", 8, 7)],
    ),
    "an unknown type, and whole chains": (
        lambda log: rechained(changed(7, X_Event_Type="Vanished")(log)),
        [("unknown_type", 8, 5)],
    ),
}


SEEN_ONLY_IN_THE_LOG = {
    "all of an aggregate removed",
    "one moved to another aggregate",
    "one moved to where its version is the next",
    "an id of another event",
}


@pytest.mark.parametrize("way", WAYS)
async def test_tampering_is_reported(client: Client, codec: Codec, good: None, way: str) -> None:
    tamper, expected = WAYS[way]
    tampered = tamper(await stored(client, codec))
    await replace_log(client, codec, tampered)
    summary = VerifySummary()

    found = await findings(client, codec, summary=summary)

    assert named(found) == expected
    assert summary.findings == len(expected)
    for finding in found:
        message = tampered[finding.position - 1]
        assert finding.subject == message.subject
        assert finding.event_id == message.headers.get(Header.EVENT_ID)
    firsts = {finding.subject: finding.first for finding in reversed(found)}
    assert all(firsts.values())
    assert sum(finding.first for finding in found) == len(firsts) == summary.broken
    if way not in SEEN_ONLY_IN_THE_LOG:
        assert await findings(client, codec, "account", "a1") == found
        assert await findings(client, codec, "account") == found
        assert await findings(client, codec, "journal") == []


async def test_a_finding_is_a_sentence(client: Client, codec: Codec, good: None) -> None:
    await replace_log(client, codec, WAYS["one twice"][0](await stored(client, codec)))
    repeated, duplicate = await findings(client, codec)
    assert repeated.text == "version 3 comes after version 5"
    assert duplicate.text == "its id is already used at position 4"
    assert (repeated.first, duplicate.first) == (True, False)


@pytest.mark.parametrize(
    ("lost", "expected"),
    [
        # The batch of positions 3 to 5; of 6 and 7, on two aggregates; and a single event.
        ([3], [("missing", 3, None), ("unfinished_batch", 4, 3), ("missing", 4, 3)]),
        ([4], [("missing", 4, None), ("unfinished_batch", 5, 4), ("missing", 5, 4)]),
        ([5], [("missing", 5, None), ("unfinished_batch", 4, 3), ("missing", 8, 5)]),
        ([6], [("missing", 6, None), ("unfinished_batch", 7, 1)]),
        ([7], [("missing", 7, None), ("unfinished_batch", 6, 2)]),
        ([1, 2], [("missing", 1, None), ("missing", 3, 2), ("missing", 6, 2)]),
        ([8], [("missing", 8, None)]),
        ([7, 8], [("unfinished_batch", 6, 2), ("missing", 7, None)]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value[0], int) else "named",
)
async def test_holes_in_the_log_and_cut_batches_are_named(
    client: Client,
    codec: Codec,
    store: EventStore,
    lost: list[int],
    expected: list[tuple[str, int, int | None]],
) -> None:
    await plain_stream(client, codec)
    await fill(store)
    for position in lost:
        await client.api(f"STREAM.MSG.DELETE.{codec.subjects.log_stream}", {"seq": position})

    assert named(await findings(client, codec)) == expected


@pytest.mark.parametrize(
    ("lost", "which"),
    [
        ([8], "position 8 is missing"),
        ([7, 8], "positions 7 to 8 are missing"),
        ([1, 2], "positions 1 to 2 are missing"),
        ([4], "position 4 is missing"),
    ],
)
async def test_it_says_which_positions_are_missing_at_the_end_too(
    client: Client, codec: Codec, store: EventStore, lost: list[int], which: str
) -> None:
    await plain_stream(client, codec)
    await fill(store)
    for position in lost:
        await client.api(f"STREAM.MSG.DELETE.{codec.subjects.log_stream}", {"seq": position})
    texts = [each.text for each in await findings(client, codec) if each.kind == "missing"]
    assert sum(text.startswith(which) for text in texts) == 1


async def test_a_raw_reader_ends_with_the_first_whole_batch(
    client: Client, codec: Codec, good: None
) -> None:
    log = StoredLog(client, codec.subjects.log_stream)
    for until, expected in [(1, 1), (2, 2), (3, 5), (4, 5), (5, 5), (6, 7), (8, 8), (99, 8)]:
        async with aclosing(log.pages(until=until, max_messages=2)) as pages:
            read = [message.sequence async for page in pages for message in page.messages]
        assert read == list(range(1, expected + 1))


async def test_a_failed_verification_is_an_error(client: Client, codec: Codec) -> None:
    with pytest.raises(StreamMissing):
        await findings(client, codec)
    with pytest.raises(StreamMissing):
        await findings(client, codec, "account", "a1")
    with pytest.raises(UnknownType):
        await findings(client, codec, "cake")
    with pytest.raises(InvalidId):
        await findings(client, codec, "account", "a.b")


async def test_an_empty_log_is_in_order(client: Client, codec: Codec, store: EventStore) -> None:
    assert await findings(client, codec) == []


FORGED: dict[str, tuple[int, Tamper]] = {
    # a1 has versions 1 to 5 at indexes 0, 2, 3, 4 and 7.
    "a second event of a version, behind it": (
        4,
        lambda log: inserted(4, odd(log[3], X_Event_ID=OTHER))(log),
    ),
    "a second event of a version, before it": (
        3,
        lambda log: inserted(3, odd(log[3], X_Event_ID=OTHER, X_Chain="f" * 64))(log),
    ),
    "a second event, as if it were the next": (
        8,
        lambda log: inserted(8, odd(log[7], X_Event_ID=OTHER, X_Aggregate_Version="6"))(log),
    ),
    "a message without envelope": (
        4,
        lambda log: inserted(4, replace(log[3], headers={"X-Note": "1"}))(log),
    ),
    "a message with half an envelope": (
        4,
        lambda log: inserted(4, odd(log[3], X_Event_ID=OTHER, X_Timestamp=None))(log),
    ),
}


def odd(message: StoredMessage, **headers: str | None) -> StoredMessage:
    (made,) = changed(0, b"{}", X_Causation_ID=OTHER, **{"X_Correlation_ID": OTHER, **headers})(
        [message]
    )
    return made


def inserted(index: int, message: StoredMessage) -> Tamper:
    return lambda log: [*log[:index], message, *log[index:]]


@pytest.mark.parametrize("way", FORGED)
async def test_the_forged_event_is_reported_and_not_the_next_one(
    client: Client, codec: Codec, good: None, way: str
) -> None:
    index, tamper = FORGED[way]
    await replace_log(client, codec, tamper(await stored(client, codec)))
    summary = VerifySummary()

    found = await findings(client, codec, summary=summary)

    assert {finding.position for finding in found} == {index + 1}
    assert (summary.total, summary.events, summary.proven) == (9, 9, 8)
    assert (summary.foreign, summary.changed, summary.missing_positions) == (1, 0, 0)
    assert (summary.first, summary.position) == (1, 9)
    assert {each.position for each in await findings(client, codec, "account", "a1")} == {index + 1}


async def test_every_message_is_accounted_for(
    client: Client, codec: Codec, store: EventStore
) -> None:
    await plain_stream(client, codec)
    config = (await client.api(f"STREAM.INFO.{codec.subjects.log_stream}"))["config"]
    elsewhere = f"{codec.domain}.elsewhere"
    wider = config | {"subjects": [codec.subjects.all_log, elsewhere]}
    await client.api(f"STREAM.UPDATE.{codec.subjects.log_stream}", wider)
    await fill(store)
    await client.request(elsewhere, b"1")
    await client.request(codec.subjects.log("account", "a1"), b"{}")
    await store.append("account", "a1", Deposited())
    for position in (1, 3, 4, 5):
        await client.api(f"STREAM.MSG.DELETE.{codec.subjects.log_stream}", {"seq": position})
    summary = VerifySummary()

    found = await findings(client, codec, summary=summary)

    foreign = [each for each in found if each.kind == "foreign"]
    assert [each.position for each in foreign] == [9, 10]
    assert elsewhere in foreign[0].text
    assert (summary.total, summary.first, summary.position) == (7, 2, 11)
    assert (summary.missing, summary.missing_positions) == ([(1, 1), (3, 5)], 4)
    assert summary.proven + summary.foreign + summary.changed == summary.total


async def test_changed_and_forged_events_are_distinguished(
    client: Client, codec: Codec, good: None
) -> None:
    await replace_log(client, codec, changed(3, b"{}")(await stored(client, codec)))
    summary = VerifySummary()
    assert named(await findings(client, codec, summary=summary)) == [("changed", 4, 3)]
    assert (summary.proven, summary.foreign, summary.changed) == (7, 0, 1)
