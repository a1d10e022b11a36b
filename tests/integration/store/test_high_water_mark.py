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
    "lines",
    [
        b"NATS/1.0\r\nX-Event-Type: a\r\nX-Event-Type: b\r\n",
        b"NATS/2.0\r\nX-Event-Type: a\r\n",
        b"NATS/1.0 503\r\nX-Event-Type: a\r\n",
        b"NATS/1.0 100 Idle\r\nX-Event-Type: a\r\n",
        b"NATS/1.0\nX-Event-Type: a\n",
        b"NATS/1.0\r\nX-Event-Type: a\r\n b\r\n",
        b"NATS/1.0\r\nX-A:\x00\r\nX-Event-Type: a\r\n",
        b"NATS/1.0\r\nX-Event-Type\r\n",
        b"NATS/1.0\r\n: a\r\n",
        b"NATS/1.0\r\nX-Event-Type:\ta\x0b\r\n",
        b"NATS/1.0\r\nX-Event-Type: \xc2\xa0a\xe2\x80\xa8\r\n",
        b"NATS/1.0\r\n X-Position:1\r\nX-Event-Type: a\r\n",
        b"NATS/1.0\r\nX-Event-Type:  a \r\nx-event-type: b\r\n",
        b"NATS/1.0\r\nX-Event-Type: \xff\r\n",
        b"NATS/1.0\r\nno header\r\nX-Event-Type: a\r\n",
        b"NATS/1.0\r\nNats-Sequence: 7\r\nNats-Time-Stamp: x\r\nNats-Stream: y\r\n",
        b"NATS/1.0\r\nStatus: 404\r\n",
    ],
)
async def test_a_foreign_message_is_the_same_however_it_is_read(
    store: EventStore, client: Client, codec: Codec, lines: bytes
) -> None:
    """The ways of reading one differ in what they make of headers that are none."""
    block = lines + b"\r\n"
    await client.nats._send_command(  # no client sends such headers
        f"HPUB {codec.subjects.log('account', 'a')}  {len(block)} {len(block) + 2}\r\n".encode()
        + block
        + b"{}\r\n"
    )
    await client.flush()
    await store.high_water.catch_up()
    seen = store.high_water.mark
    assert seen == await store.mark_at(1)
    (page,) = [page async for page in store.pages()]
    assert page.mark == seen
    await store.high_water.compare()
