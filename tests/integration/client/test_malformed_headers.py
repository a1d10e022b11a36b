"""Whatever bytes come in on a subscription: the connection stays, and the next message works."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from eventstore import nix
from eventstore.application import running
from eventstore.client.client import Client, Msg
from eventstore.client.protocol import UnreadableHeaders
from eventstore.client.responder import Reply, Request, Responder
from eventstore.config import ServiceIdentity
from eventstore.projections.feed.feed import Feed
from eventstore.service.checks import ConnectionCheck
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Health
from eventstore.store.log import StoredLog
from eventstore.store.store import EventStore
from eventstore.subscribers.subscriber import EventSubscriber
from tests.conftest import url_of
from tests.integration.commanding import Add, Added, Line, counting, opened
from tests.integration.feeding import declare_feed, deposit
from tests.integration.ledger import Deposited
from tests.integration.subscribers.test_subscriber import FAST, EventRecorder

BOUND = 20.0
STATUSES = [
    b"NATS/1.0 \xff\xfe\r\n\r\n",
    b"NATS/1.0 503 \xff\r\n\r\n",
    b"NATS/1.0 many\r\n\r\n",
]
"""Of which a stream keeps nothing: what it delivers has no status any more (nats-server 2.15)."""
MALFORMED = [
    *STATUSES,
    b"NATS/1.0",
    b"NATS/1.0\r\n",
    b"NATS/1.0\r\nA: 1\r\n",
    b"NATS/1.0\r\nA : 1\r\n\r\n",
    b"\r\n\r\n",
    b"NATS/2.0\r\nA: 1\r\n\r\n",
    b"NATS/1.0\r\nName: \xff\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: x\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\n: no name\r\n\r\n",
    b"\x00\x01\x02",
    b"\xff" * 300,
]
ODD = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nX-Actor: a\r\nX-Actor: b\r\n\r\n",
    b"NATS/1.0\r\nName:no space\r\n\r\n",
]


class RawPublisher:
    """Sends what no client's library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def publish(
        self, subject: bytes, block: bytes, payload: bytes = b"{}", reply: bytes = b""
    ) -> None:
        """Returns when the server has passed it on."""
        sizes = b"%d %d" % (len(block), len(block) + len(payload))
        words = [b"HPUB", subject, *([reply] if reply else []), sizes]
        self._writer.write(b" ".join(words) + b"\r\n" + block + payload + b"\r\nPING\r\n")
        while (line := await self._reader.readline()) != b"PONG\r\n":
            assert not line.startswith(b"-ERR"), line


@asynccontextmanager
async def publishing(url: str) -> AsyncIterator[RawPublisher]:
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    options: dict[str, Any] = {"verbose": False, "headers": True, "no_responders": True}
    if address.password is None:
        options["auth_token"] = address.username
    else:
        options.update({"user": address.username, "pass": address.password})
    writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
    try:
        yield RawPublisher(reader, writer)
    finally:
        writer.close()


@pytest.fixture
async def raw(client: Client) -> AsyncIterator[RawPublisher]:
    async with asyncio.timeout(50), publishing(url_of(client)) as raw:
        yield raw


def reconnects(client: Client) -> int:
    return int(client.nats.stats["reconnects"])


async def test_inboxes_and_subscriptions_get_malformed_headers(
    client: Client, raw: RawPublisher, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Msg] = []
    queue: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.new_inbox()
    await client.listen(inbox, heard.append)
    await client.subscribe(f"{domain_name}.>", queue.put)
    await client.flush()
    for block in (*MALFORMED, *ODD):
        await raw.publish(inbox.encode(), block)
        await raw.publish(f"{domain_name}.a".encode(), block)
        await raw.publish(f"{client.inbox_prefix}.x".encode(), block)
    for subject in (b".\xff\xfe", b".a\x0bb", b".\xc2\xa0", b".a\rb"):
        await raw.publish(domain_name.encode() + subject, b"NATS/1.0\r\n\r\n")
    await raw.publish(inbox.encode(), b"NATS/1.0\r\nA: last\r\n\r\n")
    await client.flush()

    assert len(heard) == len(MALFORMED) + len(ODD) + 1
    assert [type(each.headers) is UnreadableHeaders for each in heard[: len(MALFORMED)]] == (
        [True] * len(MALFORMED)
    )
    assert heard[-1].headers == {"A": "last"}
    assert not any(isinstance(each.headers, UnreadableHeaders) for each in heard[len(MALFORMED) :])
    through = [await queue.get() for _ in range(len(MALFORMED) + len(ODD) + 4)]
    assert through[-4].subject == f"{domain_name}.\\xff\\xfe"
    assert reconnects(client) == 0
    reported = [each for each in caplog.records if "malformed headers" in each.getMessage()]
    assert len(reported) == 1  # once a minute, and all are counted
    facts = (await ConnectionCheck(client)()).facts
    assert facts["malformed_messages"] == 3 * len(MALFORMED)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def test_an_unreadable_command_is_parked_and_answered(
    line: Line, raw: RawPublisher, client: Client
) -> None:
    subject = line.subjects.command("counter", "add").encode()
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.new_inbox()
    await client.subscribe(inbox, answers.put)
    asking = f"NATS/1.0\r\nX-Reply-To: {inbox}\r\nX-Actor: ".encode() + b"\xff\r\n\r\n"
    async with line.working():
        for block in (*MALFORMED, asking):
            await raw.publish(subject, block)
        outcome = await line.commands.execute(Add(), "c1", timeout=BOUND)
        await line.until_done()
    reported = json.loads((await answers.get()).data)

    assert (reported["status"], reported["code"]) == ("error", "invalid_header")
    assert outcome.status == "success"
    parked = await line.parked()
    assert len(parked) == len(MALFORMED) - len(STATUSES) + 1
    assert {each["code"] for each in parked} == {"invalid_header"}
    assert {each["subject"] for each in parked} == {subject.decode()}
    assert await line.log_size() == 1 + len(STATUSES)
    assert reconnects(client) == 0


async def test_a_command_with_unusual_headers_is_executed(
    line: Line, raw: RawPublisher, client: Client
) -> None:
    subject = line.subjects.command("counter", "add").encode()
    async with line.working():
        for block in ODD:
            await raw.publish(subject, block)
        await line.until_done()
    assert await line.parked() == []
    assert await line.log_size() == len(ODD)


async def test_a_command_on_a_subject_of_any_bytes_is_parked(
    line: Line, raw: RawPublisher, client: Client
) -> None:
    prefix = f"{line.subjects.domain}.cmd.counter.".encode()
    names = [b"\xff\xfe", b"a\x0bb", b"\xc2\xa0", b"\xe2\x80\xa8", b"a\rb", b"add\x00", b"a$b"]
    async with line.working():
        for name in names:
            await raw.publish(prefix + name, b"NATS/1.0\r\n\r\n")
            await raw.publish(prefix + name, b"NATS/1.0")
        outcome = await line.commands.execute(Add(), "c1", timeout=BOUND)
        await line.until_done()
    assert outcome.status == "success"
    assert len(await line.parked()) == 2 * len(names)
    assert reconnects(client) == 0


async def test_an_unreadable_query_is_answered_with_an_error(
    client: Client, raw: RawPublisher, domain_name: str
) -> None:
    async def answer(_request: Request) -> Reply:
        return Reply(b'"good"')

    answers: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = client.new_inbox()
    await client.subscribe(inbox, answers.put)
    responder = Responder(client, {f"{domain_name}.ask": answer}, queue="q")
    async with running(responder):
        await responder.ready.wait()
        for block in MALFORMED:
            await raw.publish(f"{domain_name}.ask".encode(), block, reply=inbox.encode())
            reported = json.loads((await answers.get()).data)
            assert (reported["status"], reported["code"]) == ("error", "invalid_header")
        assert (await client.request(f"{domain_name}.ask")).data == b'"good"'
    assert reconnects(client) == 0


async def test_health_and_micro_are_still_answered(
    client: Client, raw: RawPublisher, domain_name: str
) -> None:
    named = ServiceIdentity(name=f"svc-{domain_name}", version="1.2.3")
    codec = nix.domain(domain_name).codec
    endpoints = ServiceEndpoints(client, codec, Health(named.name, "1.2.3", {}), named)
    async with running(endpoints):
        await endpoints.ready.wait()
        for subject in (f"health.{domain_name}", f"$SRV.PING.{named.name}", "discovery.announce"):
            for block in MALFORMED:
                await raw.publish(subject.encode(), block, reply=b"_INBOX.nobody")
        answer = await client.request(f"health.{domain_name}", timeout=BOUND)
        assert json.loads(answer.data)["status"] == "healthy"
        ping = await client.request(f"$SRV.PING.{named.name}", timeout=BOUND)
        assert json.loads(ping.data)["id"] == endpoints.instance_id
    assert reconnects(client) == 0


async def test_a_subscriber_continues_after_malformed_headers(
    client: Client, store: EventStore, raw: RawPublisher
) -> None:
    received = EventRecorder()
    await declare_feed(client, store.codec)
    subscriber = EventSubscriber(client, store.codec, "heard", **FAST)
    subscriber.subscribe([Deposited], received)
    async with running(Feed(client, store), subscriber):
        await subscriber.ready.wait()
        await deposit(store, 1)
        await received.until(1)
        subject = store.codec.subjects.event("account", "deposited").encode()
        for block in MALFORMED:
            await raw.publish(subject, block)
        await deposit(store, 1)
        await received.until(2)
    assert received.positions == [1, 2]
    assert reconnects(client) == 0


@pytest.mark.parametrize(
    "lines",
    [
        b"Nats-Stream : X\r\nX: ab",
        b"Nats-Stream: X\r\nX: ab",
        b"Nats-Stream: Xab",
        b"Nats-Stream: X\r\n X: ab",
        b"Nats-Stream: X\r\n",
        b"Nats-Sequence: 1\r\nNats-Subject: y\r\nNats-Stream: X\r\n\r\n",
        b"A: b\r\n\r\nNats-Sequence: 1\r\n\r\n",
        b"Nats-Last-Sequence : 77\r\nX: ab",
        b"",
        b"Nats-Batch-Id : b\r\nNats-Batch-Sequence : 1\r\n\r\n",
        b" Nats-Batch-Id: b\r\n\r\n",
        b"Nats-Batch-Id\t: b\r\n\r\n",
        b"Nats-Batch-Id:\r\n\r\n",
    ],
    ids=str,
)
async def test_a_stray_message_under_an_aggregates_subject_is_passed_over(
    line: Line, raw: RawPublisher, lines: bytes
) -> None:
    subject = line.subjects.log("counter", "c1").encode()
    await line.store.append("counter", "c1", Added(amount=1))
    await raw.publish(subject, b"NATS/1.0\r\n" + lines)
    async with line.working():
        outcome = await line.commands.execute(Add(), "c1", timeout=BOUND)
    assert (outcome.status, outcome.version) == ("success", 2)
    await raw.publish(subject, b"NATS/1.0\r\n" + lines)
    assert (await line.store.append("counter", "c1", Added(amount=1))).version == 3
    async with asyncio.timeout(BOUND):
        for after, expected in ((0, [1, 3, 5]), (1, [3, 5]), (2, [3, 5]), (4, [5])):
            read = [event.position async for event in line.store.read_all(after=after)]
            assert read == expected


@pytest.mark.parametrize("commit", ["1", "eob"])
async def test_a_strangers_batch_ends_no_reader(line: Line, client: Client, commit: str) -> None:
    subject = line.subjects.log("counter", "other")
    await line.store.append("counter", "c1", Added(amount=1))
    for number in (1, 2, 3):
        headers = {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": str(number)}
        if number == 3:
            headers["Nats-Batch-Commit"] = commit
        await client.nats.request(subject, b"{}", headers=headers, timeout=BOUND)
    assert [event.position async for event in line.store.read_all()] == [1]
    own = (await line.store.append("counter", "c1", Added(amount=1))).position
    assert own == (5 if commit == "1" else 4)
    assert [event.position async for event in line.store.read_all()] == [1, own]


async def test_log_readers_continue_after_malformed_headers(
    client: Client, store: EventStore, raw: RawPublisher
) -> None:
    await declare_feed(client, store.codec)
    await deposit(store, 1)
    subject = store.codec.subjects.log("account", "other").encode()
    for block in MALFORMED:
        await raw.publish(subject, block)
    last = await deposit(store, 1)
    positions = [
        message.sequence
        async for page in StoredLog(client, store.codec.subjects.log_stream).pages()
        for message in page.messages
    ]
    assert positions == list(range(1, last + 1))
    assert last == len(MALFORMED) + 2
    assert await store.head("account", "a1", leader=True) == await store.head("account", "a1")
    assert reconnects(client) == 0
