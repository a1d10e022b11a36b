"""Verification with decoding: events that are unchanged, but can no longer be read."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from eventstore.audit import VerifySummary
from eventstore.client.client import Client, connect
from eventstore.config import Settings, StreamSettings
from eventstore.decider.domain import Domain
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.personal import ref_of
from eventstore.store.store import EventStore
from tests.integration.customers import Address, CustomerRegistered, CustomerSeen, OrderPlaced, shop
from tests.integration.tampering import (
    Tamper,
    changed,
    findings,
    named,
    rechained,
    replace_log,
    stored,
)

ANN = CustomerRegistered(email="ann@example.org")
HOME = Address("Elm Street 1", "Bath")
OTHER = "0" * 32


@pytest.fixture
def domain(domain_name: str) -> Domain:
    return shop.renamed(domain_name)


@pytest.fixture
def codec(domain: Domain) -> Codec:
    return domain.codec


@pytest.fixture
async def client(settings: Settings, codec: Codec) -> AsyncIterator[Client]:
    subjects = codec.subjects
    needed = {subjects.log_stream, f"KV_{subjects.key_bucket}"}
    specs = topology(subjects, StreamSettings())
    async with connect(settings) as client:
        await declare(client, [spec for spec in specs if spec.name in needed])
        yield client


@pytest.fixture(autouse=True)
async def filled(client: Client, codec: Codec) -> None:
    """Positions: customer ann has 1 and 4, customer ben has 2, ann's order o1 is 3."""
    async with EventStore(client, codec) as store:
        await store.append("customer", "ann", ANN)
        await store.append("customer", "ben", CustomerRegistered(email="ben@example.org"))
        await store.append("order", "o1", OrderPlaced(customer_id="ann", address=HOME))
        await store.append("customer", "ann", CustomerSeen())


async def put_key(client: Client, codec: Codec, subject: str, payload: bytes) -> None:
    """Write over a key, as another tool could."""
    bucket = codec.subjects.key_bucket
    await publish_acked(client, f"$KV.{bucket}.{ref_of(subject)}", payload)


async def forget(client: Client, codec: Codec) -> None:
    async with EventStore(client, codec) as store:
        await store.keyring.forget("ann")


async def delete_key(client: Client, codec: Codec) -> None:
    await put_key(client, codec, "ann", b"")


async def garble_key(client: Client, codec: Codec) -> None:
    short = base64.b64encode(b"short").decode()
    await put_key(client, codec, "ann", msgspec.json.encode({"v": 1, "key": short}))


async def delete_bucket(client: Client, codec: Codec) -> None:
    await client.api(f"STREAM.DELETE.KV_{codec.subjects.key_bucket}")


async def test_readable_and_forgotten_events_are_not_findings(client: Client, codec: Codec) -> None:
    assert await findings(client, codec, read=True) == []
    await forget(client, codec)
    assert await findings(client, codec, read=True) == []
    assert await findings(client, codec, "customer", "ann", read=True) == []


@pytest.mark.parametrize(
    ("lose", "positions"),
    [(delete_key, [1, 3]), (garble_key, [1, 3]), (delete_bucket, [1, 2, 3])],
    ids=lambda value: "" if isinstance(value, list) else value.__name__,
)
async def test_a_missing_key_without_a_tombstone_is_reported(
    client: Client,
    codec: Codec,
    lose: Callable[[Client, Codec], Awaitable[None]],
    positions: list[int],
) -> None:
    await lose(client, codec)

    found = await findings(client, codec, read=True)

    assert [finding.position for finding in found] == positions
    assert {finding.kind for finding in found} == {"unreadable"}
    assert found[0].text == (
        "payload of CustomerRegistered: personal data in email cannot be decrypted: "
        f"key {ref_of('ann')} is missing, though not forgotten"
    )
    assert await findings(client, codec, "customer", "ann", read=True) == found[:1]
    assert await findings(client, codec) == [], "bytes and chains are as they were"


# Indexes of the log, which is chained again as far as the chain is about what was changed.
WAYS: dict[str, tuple[Tamper, list[tuple[str, int, int | None]], str]] = {
    "no JSON": (
        lambda log: rechained(changed(3, b"{")(log)),
        [("unreadable", 4, 2)],
        "payload of CustomerSeen: Input data was truncated",
    ),
    "an upcaster that fails": (
        lambda log: rechained(
            changed(1, b'{"email":"b"}', X_Schema_Version="1", X_Personal=None)(log)
        ),
        [("unreadable", 2, 1)],
        "payload of CustomerRegistered version 1, upcaster mail_is_email: KeyError: 'mail'",
    ),
    "an unknown type": (
        lambda log: rechained(changed(3, X_Event_Type="Vanished")(log)),
        [("unknown_type", 4, 2), ("unreadable", 4, 2)],
        "event type 'Vanished' is not registered in ",
    ),
    "a seal that was broken": (
        lambda log: rechained(
            changed(1, log[1].payload.replace(b'"data":"', b'"data":"AAAA'))(log)
        ),
        [("unreadable", 2, 1)],
        "payload of CustomerRegistered: personal data in email cannot be decrypted with their key",
    ),
    "seals that the header is silent about": (
        changed(1, X_Personal=None),
        [("unreadable", 2, 1)],
        "payload of CustomerRegistered: Expected `str`, got `object` - at `$.email`",
    ),
    "a header that names another key": (
        changed(1, X_Personal=f"email={OTHER}"),
        [("unreadable", 2, 1)],
        f"payload of CustomerRegistered: personal data in email and the header {PERSONAL} name",
    ),
    "a changed payload, chains as they were": (
        changed(3, b"[]"),
        [("changed", 4, 2), ("unreadable", 4, 2)],
        "payload of CustomerSeen: Expected `object`, got `array`",
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_unreadable_events_are_reported_with_the_reason(
    client: Client, codec: Codec, way: str
) -> None:
    tamper, expected, reason = WAYS[way]
    await replace_log(client, codec, tamper(await stored(client, codec)))
    summary = VerifySummary()

    found = await findings(client, codec, read=True, summary=summary)

    assert named(found) == expected
    assert found[-1].text.startswith(reason)
    assert summary.kinds["unreadable"] == summary.broken == 1
    assert named(await findings(client, codec)) == expected[:-1]
    assert await findings(client, codec, "order", read=True) == []
