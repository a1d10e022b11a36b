"""Anchors: a document stored elsewhere shows whether older events were changed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eventstore.audit import Anchor, VerifySummary
from eventstore.client.client import Client
from eventstore.errors import InvalidAnchor
from eventstore.messages.codec import Codec
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited, Noted, Opened, ledger
from tests.integration.tampering import (
    changed,
    findings,
    named,
    ordered,
    rechained,
    replace_log,
    stored,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def anchored(client: Client, codec: Codec) -> Anchor:
    summary = VerifySummary()
    assert await findings(client, codec, summary=summary) == []
    return Anchor.of(codec, summary.fold, NOW)


@pytest.fixture
async def anchor(client: Client, codec: Codec, store: EventStore) -> Anchor:
    """Of a log of 100 events: 33 of j, 34 of a1 and 33 of a2, in turns."""
    for number in range(33):
        await store.append("account", "a1", Deposited(amount=number))
        await store.append("account", "a2", Deposited(amount=number))
        await store.append("journal", "j", Noted())
    await store.append("account", "a1", Opened())
    return await anchored(client, codec)


async def test_it_describes_its_log(anchor: Anchor, client: Client, codec: Codec) -> None:
    *_, last = await stored(client, codec)
    assert (anchor.domain, anchor.stream) == (codec.domain, codec.subjects.log_stream)
    assert (anchor.events, anchor.aggregates) == (100, 3)
    assert anchor.last_event_id == last.headers["X-Event-ID"]
    assert anchor.last_chain == last.headers["X-Chain"]
    assert anchor.time == "2026-01-01T00:00:00.000000Z"
    assert list(anchor.marks) == list(range(4, 101, 4))
    assert Anchor.from_json(anchor.to_json()) == anchor


async def test_a_log_that_grows_still_matches_its_anchor(
    anchor: Anchor, client: Client, codec: Codec, store: EventStore
) -> None:
    assert await findings(client, codec, anchor=anchor) == []
    await store.append("account", "a3", [Opened(), Deposited()])
    assert await findings(client, codec, anchor=anchor) == []
    assert (await anchored(client, codec)).root != anchor.root


async def test_positions_do_not_count(anchor: Anchor, client: Client, codec: Codec) -> None:
    await replace_log(client, codec, await stored(client, codec), first=1_000)
    found = await findings(client, codec, anchor=anchor)
    assert named(found) == [("missing", 1, None)], "positions 1 to 999"


async def test_the_last_event_of_an_aggregate_removed_is_found_by_the_anchor_only(
    anchor: Anchor, client: Client, codec: Codec
) -> None:
    log = await stored(client, codec)
    await replace_log(client, codec, log[:98] + log[99:])  # the last of j

    assert await findings(client, codec) == []
    (fewer,) = await findings(client, codec, anchor=anchor)
    assert named([fewer]) == [("anchor", 99, None)]
    assert (
        "is of 100 events, and the log has only 99, of which the first 96 are known to be the same"
    ) in fewer.text


async def test_the_end_removed_is_found(anchor: Anchor, client: Client, codec: Codec) -> None:
    log = await stored(client, codec)
    await replace_log(client, codec, log[:96])
    (fewer,) = await findings(client, codec, anchor=anchor)
    assert (fewer.kind, fewer.position) == ("anchor", 96)


async def test_a_rewritten_history_with_valid_chains_is_located(
    anchor: Anchor, client: Client, codec: Codec
) -> None:
    log = await stored(client, codec)
    await replace_log(client, codec, rechained(changed(49, b'{"amount":1000}')(log)))

    assert await findings(client, codec) == []
    (found,) = await findings(client, codec, anchor=anchor)
    assert found.kind == "anchor"
    assert "the first that differs is one of events 49 to 52" in found.text


async def test_swapped_aggregates_are_found(anchor: Anchor, client: Client, codec: Codec) -> None:
    log = await stored(client, codec)
    await replace_log(client, codec, ordered(1, 0, *range(2, 100))(log))
    assert await findings(client, codec) == []
    (found,) = await findings(client, codec, anchor=anchor)
    assert "none is known to be the same" in found.text


async def test_an_anchor_of_another_log_is_refused(anchor: Anchor, client: Client) -> None:
    with pytest.raises(InvalidAnchor, match="and this is elsewhere"):
        await findings(client, ledger("elsewhere"), anchor=anchor)
