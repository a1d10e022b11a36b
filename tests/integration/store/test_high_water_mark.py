"""The high-water mark: what a process has seen of the log, whoever has appended it."""

from __future__ import annotations

import pytest

from eventstore.client.client import Client
from eventstore.messages.codec import Codec
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited


async def test_what_others_have_appended_is_seen_at_the_next_comparison(
    store: EventStore, client: Client, codec: Codec
) -> None:
    async with EventStore(client, codec) as other:
        await other.append("account", "a", [Deposited(amount=1), Deposited(amount=2)])
    assert store.high_water.mark is None
    await store.high_water.catch_up()
    assert store.high_water.mark == await store.mark_at(2)


@pytest.mark.parametrize(
    ("subject", "block"),
    [
        (b"a", b"NATS/1"),
        (b"a", b"NATS/2.0\r\nX-Event-Type: a\r\n\r\n"),
        (b"a", b"NATS/1.0\r\nX-Event-Type: a\r\nX-Event-Type: b\r\n\r\n"),
        (b"a", b"NATS/1.0\r\nno header\r\n X-Event-Type:\x00\xff\r\n\r\n"),
        (b"a", b"NATS/1.0\r\nNats-Sequence: 7\r\nNats-Time-Stamp: x\r\n\r\n"),
        (b"\x93", b"NATS/1.0\r\n\r\n"),  # JSON has another text for it
        (b"a\xe2\x82b", b"NATS/1.0\r\n\r\n"),
    ],
)
async def test_a_foreign_message_is_the_same_however_it_is_read(
    store: EventStore, client: Client, codec: Codec, subject: bytes, block: bytes
) -> None:
    """The server's answers differ in what they make of a subject or headers that are none."""
    place = codec.subjects.log("account", "a").encode().removesuffix(b"a") + subject
    await client.nats._send_command(  # no client sends such messages
        b"HPUB %s  %d %d\r\n%s{}\r\n" % (place, len(block), len(block) + 2, block)
    )
    await client.flush()
    await store.high_water.catch_up()
    seen = store.high_water.mark
    assert seen == await store.mark_at(1)
    (page,) = [page async for page in store.pages()]
    assert page.mark == seen
