"""The continuous pull: bounded, reports silence, and survives reconnects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.msg import Msg

from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    JetStreamError,
    PermissionDenied,
    PullLost,
    RequestTimeout,
)
from eventstore.jetstream.consumer import Delivery, PullConsumer, _acknowledgement, is_transient
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for
from tests.connection import SOON
from tests.proxy import TcpProxy

CONSUMER = "reader"


@pytest.fixture
async def stream(client: Client, domain_name: str) -> str:
    name = f"{domain_name.upper()}_PULLED"
    await client.api(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{domain_name}.>"]})
    return name


async def consume(client: Client, stream: str, **config: Any) -> str:
    await client.api(
        f"CONSUMER.CREATE.{stream}.{CONSUMER}",
        {
            "stream_name": stream,
            "config": {"name": CONSUMER, "ack_policy": "none", "mem_storage": True, **config},
        },
    )
    return CONSUMER


async def fill(client: Client, stream: str, count: int, payload: bytes = b"x") -> None:
    subject = f"{stream.removesuffix('_PULLED').lower()}.n"
    for _ in range(count):
        await client.publish(subject, payload)
    await client.flush()


async def take(pull: PullConsumer, count: int, limit: int = 1_000) -> list[int]:
    taken: list[int] = []
    while len(taken) < count:
        taken.extend(Delivery.of(message).sequence for message in await pull.take(limit))
    return taken


def buffered(pull: PullConsumer) -> int:
    """Messages requested, or delivered and not taken: what may be in memory."""
    return pull._requested + len(pull._messages)


async def until_delivered(client: Client, pull: PullConsumer, count: int) -> None:
    """Return when so many messages are buffered."""
    async with asyncio.timeout(10):
        while len(pull._messages) < count:
            await client.flush()


async def all_delivered(client: Client, stream: str) -> int:
    """The number of messages delivered in total, when no request is open."""
    async with asyncio.timeout(10):
        while True:
            info = await client.api(f"CONSUMER.INFO.{stream}.{CONSUMER}")
            if info["num_waiting"] == 0:
                delivered: int = info["delivered"]["consumer_seq"]
                return delivered


async def test_messages_are_taken_in_order_and_up_to_the_maximum(
    client: Client, stream: str
) -> None:
    await fill(client, stream, 1_000)
    async with PullConsumer(client, stream, await consume(client, stream), buffer=200) as pull:
        first = await pull.take(7)
        assert 1 <= len(first) <= 7
        taken = [Delivery.of(message).sequence for message in first]
        taken += await take(pull, 1_000 - len(first), limit=33)
    assert taken == list(range(1, 1_001))


async def test_the_buffer_is_bounded(client: Client, stream: str) -> None:
    await fill(client, stream, 2_000)
    limit = 0
    async with PullConsumer(client, stream, await consume(client, stream), buffer=100) as pull:
        taken = 0
        while taken < 2_000:
            taken += len(await pull.take(3))
            await client.flush()  # all that was asked for is there
            limit = max(limit, buffered(pull))
    assert 50 < limit <= 100


async def test_expired_requests_are_repeated_and_no_longer_counted(
    client: Client, stream: str
) -> None:
    name = await consume(client, stream)
    async with PullConsumer(client, stream, name, buffer=100, expires=0.4, heartbeat=0.19) as pull:
        taken: list[int] = []
        for _ in range(3):
            waiting = asyncio.ensure_future(take(pull, 3))
            await asyncio.sleep(0.9)  # more than two expiries
            assert buffered(pull) <= 100
            await fill(client, stream, 3)
            taken += await waiting
            assert 50 <= buffered(pull) <= 100
    assert taken == list(range(1, 10))


async def test_an_expired_request_frees_only_its_own_share_of_the_buffer(
    client: Client, stream: str
) -> None:
    await fill(client, stream, 60)
    name = await consume(client, stream)
    async with PullConsumer(client, stream, name, buffer=100, heartbeat=0.2) as pull:
        taken = await pull.take(1)
        await until_delivered(client, pull, 59)
        pull._expires, lasting = 0.5, pull._expires
        taken += await pull.take(59)  # and requests 60, beside the 40 of the first request
        assert (len(taken), buffered(pull)) == (60, 100)
        async with asyncio.timeout(SOON):
            while buffered(pull) == 100:
                await client.flush()
        assert buffered(pull) == 40
        pull._expires = lasting
        waiting = asyncio.ensure_future(pull.take(1))
        await fill(client, stream, 300)
        await waiting
        assert await all_delivered(client, stream) == 60 + 40 + 60


async def test_the_bytes_in_the_buffer_are_bounded(client: Client, stream: str) -> None:
    await fill(client, stream, 60, b"x" * 500_000)
    name = await consume(client, stream)
    async with PullConsumer(client, stream, name, buffer=1_000, max_bytes=2_000_000) as pull:
        taken = 0
        while taken < 60:
            taken += len(await pull.take(1))
            await client.flush()
            assert sum(len(message.data) for message in pull._messages) <= 3 * 2_200_000


async def test_a_message_of_the_maximum_size_is_delivered(client: Client, stream: str) -> None:
    await fill(client, stream, 2, b"x" * client.max_payload)
    name = await consume(client, stream)
    async with PullConsumer(client, stream, name, buffer=10, max_bytes=1_000) as pull:
        async with asyncio.timeout(SOON):
            assert await take(pull, 2) == [1, 2]


async def test_a_deleted_consumer_is_reported_after_its_deliveries(
    client: Client, stream: str
) -> None:
    await fill(client, stream, 5)
    async with PullConsumer(client, stream, await consume(client, stream), buffer=10) as pull:
        assert len(await pull.take(1)) == 1
        await until_delivered(client, pull, 4)
        await client.api(f"CONSUMER.DELETE.{stream}.{CONSUMER}")
        await client.flush()
        assert await take(pull, 4) == [2, 3, 4, 5]
        async with asyncio.timeout(SOON):
            with pytest.raises(PullLost, match="lost"):
                await pull.take(1)


async def test_a_nonexistent_consumer_is_reported(client: Client, stream: str) -> None:
    async with PullConsumer(client, stream, "nobody", buffer=10) as pull, asyncio.timeout(SOON):
        with pytest.raises(PullLost, match="lost: no responders"):
            await pull.take(1)


async def test_a_silent_consumer_is_reported_after_two_heartbeats(
    client: Client, stream: str
) -> None:
    async def swallow(message: Msg) -> None:
        """Somebody listens, and says nothing."""

    listening = await client.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.mute", swallow)
    async with PullConsumer(client, stream, "mute", buffer=10, heartbeat=0.1) as pull:
        async with asyncio.timeout(SOON):
            with pytest.raises(PullLost, match="silent"):
                await pull.take(1)
    await listening.unsubscribe()


async def test_a_refused_request_is_reported_and_not_repeated(client: Client, stream: str) -> None:
    name = await consume(client, stream, max_batch=5)
    async with PullConsumer(client, stream, name, buffer=10) as pull, asyncio.timeout(SOON):
        with pytest.raises(PullLost, match="Exceeded MaxRequestBatch"):
            await pull.take(1)


class Server:
    """A fake consumer: records requests, and answers as a test says."""

    def __init__(self, client: Client, stream: str) -> None:
        self.asked: list[tuple[str, int]] = []  # where to answer, and how many are wanted
        self._client = client
        self._stream = stream
        self._more = asyncio.Condition()

    async def listen(self) -> str:
        await self._client.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.acted", self._note)
        return "acted"

    async def _note(self, message: Msg) -> None:
        async with self._more:
            self.asked.append((message.reply, json.loads(message.data)["batch"]))
            self._more.notify()

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(10), self._more:
            await self._more.wait_for(lambda: len(self.asked) >= count)

    async def say(self, request: int, status: str, text: str, owed: int | None = None) -> None:
        """Tell a request, counted from 1, how it is with it."""
        headers = {"Status": status, "Description": text}
        if owed is not None:
            headers["Nats-Pending-Messages"] = str(owed)
        await self._client.publish(self.asked[request - 1][0], headers=headers)
        await self._client.flush()


@pytest.mark.parametrize(
    ("status", "text", "owed"),
    [
        ("408", "Request Timeout", 10),
        ("409", "Message Size Exceeds MaxBytes", 7),
        ("409", "Leadership Change", None),
        ("409", "Consumer Deleted", None),
        ("503", "No Responders", None),
    ],
)
async def test_a_late_status_of_an_ended_request_is_ignored(
    client: Client, stream: str, status: str, text: str, owed: int | None
) -> None:
    server = Server(client, stream)
    async with PullConsumer(client, stream, await server.listen(), buffer=10) as pull:
        waiting = asyncio.ensure_future(pull.take(10))
        await server.until_asked(1)
        await server.say(1, "409", "Leadership Change")  # ends all requests, and says no number
        await server.until_asked(2)
        await server.say(1, status, text, owed)
        await client.flush()
        assert buffered(pull) == 10
        assert [wanted for _, wanted in server.asked] == [10, 10]
        assert not waiting.done()
        await server.say(2, "408", "Request Timeout", 10)
        await server.until_asked(3)
        assert buffered(pull) == 10
        waiting.cancel()


async def test_heartbeats_keep_an_idle_pull_alive(client: Client, stream: str) -> None:
    name = await consume(client, stream)
    async with PullConsumer(client, stream, name, buffer=10, heartbeat=0.4) as pull:
        waiting = asyncio.ensure_future(pull.take(1))
        await asyncio.wait([waiting], timeout=1.3)  # more than three of them
        assert not waiting.done()
        await fill(client, stream, 1)
        assert len(await waiting) == 1


async def test_a_closed_client_ends_a_waiting_pull(
    client: Client, stream: str, settings: Settings
) -> None:
    name = await consume(client, stream)
    own = await Client.open(settings)
    async with PullConsumer(own, stream, name, buffer=10) as pull:
        waiting = asyncio.ensure_future(pull.take(1))
        await asyncio.sleep(0)
        await own.close()
        async with asyncio.timeout(SOON):
            with pytest.raises(ConnectionLost):
                await waiting


@asynccontextmanager
async def breakable(server: EmbeddedServer, domain: str) -> AsyncIterator[tuple[TcpProxy, Client]]:
    async with (
        TcpProxy(server) as proxy,
        connect(settings_for(proxy.url, domain)) as client,
    ):
        yield proxy, client


async def _break(proxy: TcpProxy, client: Client) -> None:
    back = asyncio.Event()
    forget = client.on_reconnect(back.set)
    proxy.cut()
    async with asyncio.timeout(SOON):
        await back.wait()
    forget()


async def test_an_acknowledging_pull_goes_on_after_reconnects_within_its_buffer(
    client: Client, stream: str, nats_server: EmbeddedServer, domain_name: str
) -> None:
    name = await consume(client, stream, ack_policy="explicit", ack_wait=200_000_000)
    async with (
        breakable(nats_server, domain_name) as (proxy, own),
        PullConsumer(own, stream, name, buffer=50) as pull,
    ):
        taken: set[int] = set()
        for total in (100, 200, 300):
            waiting = asyncio.ensure_future(pull.take(10))
            await asyncio.sleep(0)
            await _break(proxy, own)
            await fill(client, stream, 100)
            while len(taken) < total:
                for message in await waiting:
                    taken.add(Delivery.of(message).sequence)
                    await own.publish(message.reply, b"+ACK")
                assert buffered(pull) <= 50
                waiting = asyncio.ensure_future(pull.take(10))
                if len(taken) == total:
                    waiting.cancel()
    assert taken == set(range(1, 301))


async def test_requests_from_before_a_reconnect_deliver_nothing(
    client: Client, stream: str, nats_server: EmbeddedServer, domain_name: str
) -> None:
    name = await consume(client, stream, ack_policy="explicit")
    async with (
        breakable(nats_server, domain_name) as (proxy, own),
        PullConsumer(own, stream, name, buffer=50) as pull,
    ):
        waiting = asyncio.ensure_future(pull.take(1))
        for requests in (1, 2, 3):
            async with asyncio.timeout(SOON):
                while pull._requests < requests:
                    await client.flush()
            await own.flush()
            if requests < 3:
                await _break(proxy, own)
        waiting.cancel()
        await fill(client, stream, 300)
        assert await all_delivered(client, stream) == 50


async def test_a_pull_without_acks_reports_a_broken_connection(
    client: Client, stream: str, nats_server: EmbeddedServer, domain_name: str
) -> None:
    await fill(client, stream, 5)
    name = await consume(client, stream)
    async with (
        breakable(nats_server, domain_name) as (proxy, own),
        PullConsumer(own, stream, name, buffer=10, acknowledged=False) as pull,
    ):
        assert len(await pull.take(1)) == 1
        await until_delivered(own, pull, 4)
        await _break(proxy, own)
        assert await take(pull, 4) == [2, 3, 4, 5]
        with pytest.raises(PullLost, match="the connection broke"):
            await pull.take(1)


async def test_taken_messages_are_returned_though_no_more_can_be_requested(
    client: Client, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(client, stream, 10)

    async def fail(subject: str, payload: bytes = b"", **more: Any) -> None:
        raise RequestTimeout("flush: no answer after 5 s")

    async with PullConsumer(client, stream, await consume(client, stream), buffer=4) as pull:
        taken = await take(pull, 1, 1)
        monkeypatch.setattr(client, "publish", fail)
        taken += await take(pull, 3, 3)
        with pytest.raises(PullLost, match="no answer after 5 s"):
            await pull.take(1)
    assert taken == [1, 2, 3, 4]


async def test_delivered_messages_that_were_not_taken_can_be_requeued(
    client: Client, stream: str
) -> None:
    await fill(client, stream, 5)
    async with PullConsumer(client, stream, await consume(client, stream), buffer=10) as pull:
        (first,) = await pull.take(1)
        await until_delivered(client, pull, 4)
        rest = pull.drain()
        assert pull.drain() == []
    assert [Delivery.of(message).sequence for message in (first, *rest)] == [1, 2, 3, 4, 5]


REPLIES = [
    "$JS.ACK.S.C.2.11.7.1700000000000000001.3",
    "$JS.ACK._.ACCHASH.S.C.2.11.7.1700000000000000001.3",
    "$JS.ACK.hub.ACCHASH.S.C.2.11.7.1700000000000000001.3.random",
]


@pytest.mark.parametrize("reply", REPLIES)
def test_both_forms_of_the_acknowledgement_subject_are_read(client: Client, reply: str) -> None:
    message = Msg(client.nats, "s", reply)
    assert Delivery.of(message) == Delivery(2, 11, 7, 1_700_000_000_000_000_001, 3)


async def test_only_what_the_consumer_delivers_is_taken(client: Client, stream: str) -> None:
    """Another consumer may deliver to the inbox, with the right to do so of whoever pulls it."""
    await consume(client, stream)
    other = {"name": "other", "ack_policy": "explicit"}
    await client.api(f"CONSUMER.CREATE.{stream}.other", {"stream_name": stream, "config": other})
    async with PullConsumer(client, stream, CONSUMER, buffer=10) as pull:
        taking = asyncio.create_task(pull.take(10))
        await client.publish(
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.other", b'{"batch": 3}', reply=f"{pull._inbox}.1"
        )
        await fill(client, stream, 3)
        taken = await taking
        async with asyncio.timeout(10):
            while pull.foreign < 3:
                await client.flush()
    assert [message.reply.split(".")[3] for message in taken] == [CONSUMER] * len(taken)


@pytest.mark.parametrize(
    ("reply", "is_delivered"),
    [
        ("$JS.ACK.S.c.1.2.3.1764000000000000000.4", True),
        ("$JS.ACK.hub.Ab12.S.c.1.2.3.1764000000000000000.4", True),
        ("$JS.ACK._.Ab12.S.c.1.2.3.1764000000000000000.4.rAnd0m", True),
        ("", False),
        ("$JS.ACK.S.c.1.2.3.1764000000000000000", False),
        ("$JS.ACK.S.other.1.2.3.1764000000000000000.4", False),
        ("$JS.ACK.T.c.1.2.3.1764000000000000000.4", False),
        ("$JS.ACK.S.c.1.2.3.x.4", False),
        ("$JS.ACK.S.c.1.2.3.-4.4", False),
        ("$JS.ACK.S.c.1.2.3.1764000000000000000.4\n", False),
        ("$JS.ACK.S.c.1.2.3." + "9" * 5_000 + ".4", False),
        ("$JS.API.STREAM.DELETE.S", False),
        ("d.log.c.$JS.ACK.S.c.1.2.3.1764000000000000000.4", False),
        ("$JS.ACK.hub.*.S.c.1.2.3.1764000000000000000.4", False),
        ("$JS.ACK.hub.Ab12.S.c.1.2.3.1764000000000000000.4.>", False),
    ],
)
def test_ack_subjects(reply: str, is_delivered: bool) -> None:
    assert (_acknowledgement("S", "c").fullmatch(reply) is not None) is is_delivered


@pytest.mark.parametrize(
    ("error", "may"),
    [
        (JetStreamError(10008, 503, "JetStream system temporarily unavailable"), True),
        (JetStreamError(0, 500, "internal"), True),
        (JetStreamError(10014, 404, "consumer not found"), False),
        (JetStreamError(10025, 499, "refused"), False),
        (PullLost("the consumer is lost"), True),
        (ConnectionLost("lost"), True),
        (RequestTimeout("no answer"), True),
        (PermissionDenied("not allowed"), False),
    ],
)
def test_transient_errors_of_a_pull(error: ClientError, may: bool) -> None:
    assert is_transient(error) is may
