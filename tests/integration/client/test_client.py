from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nats.aio.client
import pytest

from eventstore.client.client import Client, Msg, connect
from eventstore.config import RetrySettings, Settings, redacted_url
from eventstore.errors import (
    AuthenticationFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    InvalidHeader,
    InvalidMessage,
    InvalidSubject,
    JetStreamError,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    ServerTooOld,
)
from eventstore.server.embedded import EmbeddedServer
from tests.broken_peer import INFO, BrokenPeer
from tests.conftest import StartServer, settings_for
from tests.integration.commanding import until
from tests.ports import free_ports
from tests.processes import freeze
from tests.proxy import TcpProxy

BOUND = 10.0
NOBODY = "nats://127.0.0.1:1"


@pytest.fixture
async def own_client(server: EmbeddedServer) -> AsyncIterator[Client]:
    """A client of the test's own server."""
    async with connect(settings_for(server.url)) as client:
        yield client


async def deaf(client: Client, subject: str) -> asyncio.Event:
    """Listen on a subject and never answer; the event is set when asked."""
    request_arrived = asyncio.Event()

    async def note(_: Msg) -> None:
        request_arrived.set()

    await client.subscribe(subject, note)
    return request_arrived


async def echo(client: Client, subject: str) -> None:
    async def answer(message: Msg) -> None:
        await client.publish(message.reply, message.data, headers=message.headers)

    await client.subscribe(subject, answer)


async def test_the_url_of_the_connected_server(client: Client, nats_server: EmbeddedServer) -> None:
    assert client.is_connected
    assert not client.is_closed
    assert client.url == redacted_url(nats_server.url)
    assert client.server_version.startswith("2.")
    assert client.max_payload == 1_048_576
    assert isinstance(client.nats, nats.aio.client.Client)


async def test_opens_and_closes_without_a_block(settings: Settings) -> None:
    client = await Client.open(settings)
    assert client.is_connected
    await client.close()
    assert client.is_closed
    assert not client.is_connected
    await client.close()


async def test_the_server_shows_its_name(settings: Settings) -> None:
    for name, shown in ((None, "eventstore"), ("worker", "worker")):
        async with connect(settings, name=name) as client:
            assert client.nats.options["name"] == shown


async def test_a_request_is_answered(client: Client, domain_name: str) -> None:
    await echo(client, f"{domain_name}.echo")
    answer = await client.request(f"{domain_name}.echo", b"hello", headers={"A": "1", "B": "ä: x"})
    assert (answer.data, answer.headers) == (b"hello", {"A": "1", "B": "ä: x"})


async def test_concurrent_requests_get_their_own_answers(client: Client, domain_name: str) -> None:
    await echo(client, f"{domain_name}.echo")
    payloads = [str(number).encode() for number in range(500)]
    answers = await asyncio.gather(
        *(client.request(f"{domain_name}.echo", payload) for payload in payloads)
    )
    assert [answer.data for answer in answers] == payloads


async def test_no_responders(client: Client, domain_name: str) -> None:
    with pytest.raises(NoResponders, match=f"no responders on {domain_name}.none"):
        await client.request(f"{domain_name}.none")


async def test_a_request_times_out(client: Client, domain_name: str) -> None:
    await deaf(client, f"{domain_name}.deaf")
    with pytest.raises(RequestTimeout, match=f"{domain_name}.deaf: no answer after 0.05 s"):
        await client.request(f"{domain_name}.deaf", timeout=0.05)


async def test_a_second_or_late_answer_is_dropped(client: Client, domain_name: str) -> None:
    async def answer_twice(message: Msg) -> None:
        await client.publish(message.reply, b"first")
        await client.publish(message.reply, b"second")

    await client.subscribe(f"{domain_name}.twice", answer_twice)
    answer = await client.request(f"{domain_name}.twice")
    assert answer.data == b"first"
    await client.flush()
    assert client.is_connected


async def test_a_cancelled_request_leaves_nothing_behind(client: Client, domain_name: str) -> None:
    request_arrived = await deaf(client, f"{domain_name}.deaf")
    request = asyncio.create_task(client.request(f"{domain_name}.deaf"))
    await request_arrived.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert len(client._answers) == 0


async def test_publishes_with_headers_and_reply(client: Client, domain_name: str) -> None:
    received: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe(f"{domain_name}.>", received.put)
    await client.publish(f"{domain_name}.a", b"x", headers={"A": "1"}, reply=f"{domain_name}.r")
    await client.publish(f"{domain_name}.b")
    first, second = await received.get(), await received.get()
    assert (first.subject, first.data, first.headers) == (f"{domain_name}.a", b"x", {"A": "1"})
    assert first.reply == f"{domain_name}.r"
    assert (second.subject, second.data, second.headers) == (f"{domain_name}.b", b"", None)


async def test_publishing_waits_for_the_server_at_a_large_backlog(
    client: Client, domain_name: str
) -> None:
    received: asyncio.Queue[int] = asyncio.Queue()

    async def note(message: Msg) -> None:
        await received.put(len(message.data))

    await client.subscribe(f"{domain_name}.big", note)
    for _ in range(20):
        await client.publish(f"{domain_name}.big", bytes(1_000_000))
        assert client.nats.pending_data_size < 10_000_000
    assert [await received.get() for _ in range(20)] == [1_000_000] * 20


@pytest.mark.parametrize("headers", [None, {"A": "1"}])
async def test_a_message_over_the_maximum_payload_is_refused(
    client: Client, domain_name: str, headers: dict[str, str] | None
) -> None:
    block = len(b"NATS/1.0\r\nA: 1\r\n\r\n") if headers else 0
    payload = bytes(client.max_payload - block)
    await client.publish(f"{domain_name}.big", payload, headers=headers)
    with pytest.raises(InvalidMessage):
        await client.publish(f"{domain_name}.big", payload + b"x", headers=headers)
    with pytest.raises(InvalidMessage):
        await client.request(f"{domain_name}.big", payload + b"x", headers=headers)
    await client.flush()


async def test_headers_count_for_the_maximum_payload(client: Client) -> None:
    with pytest.raises(InvalidMessage, match=r"^a: the message would have 1,048,594 bytes; the se"):
        await client.publish("a", bytes(1_048_576), headers={"A": "1"})


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPING"])
async def test_an_invalid_subject_is_refused(client: Client, subject: str) -> None:
    with pytest.raises(InvalidSubject):
        await client.publish(subject)
    with pytest.raises(InvalidSubject):
        await client.request(subject)
    with pytest.raises(InvalidSubject):
        await client.subscribe(subject, asyncio.Queue[Msg]().put)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"A": "1", "B C": "2"}, "header 'B C' has a name that is not allowed"),
        ({"": "1"}, "header '' has a name that is not allowed"),
        ({"A:": "1"}, "header 'A:' has a name that is not allowed"),
        ({"A": "1", "B": "2\r\nC: 3"}, "header B has a line break in its value"),
        ({"A": "1\n2"}, "header A has a line break in its value"),
    ],
)
async def test_headers_that_are_not_allowed(
    client: Client, headers: dict[str, str], problem: str
) -> None:
    with pytest.raises(InvalidHeader) as caught:
        await client.publish("a", headers=headers)
    assert str(caught.value) == problem


async def test_a_queue_shares_messages(client: Client, domain_name: str) -> None:
    received: asyncio.Queue[Msg] = asyncio.Queue()
    for _ in range(3):
        await client.subscribe(f"{domain_name}.work", received.put, queue="workers")
    await client.publish(f"{domain_name}.work", b"once")
    await client.flush()
    assert (await received.get()).data == b"once"
    assert received.empty()


async def test_unsubscribing_ends_it_and_may_be_repeated(
    settings: Settings, domain_name: str
) -> None:
    async with connect(settings) as client:
        request_arrived = await deaf(client, f"{domain_name}.a")
        subscription = await client.subscribe(f"{domain_name}.b", asyncio.Queue[Msg]().put)
        other = await client.subscribe(f"{domain_name}.c", asyncio.Queue[Msg]().put)
        assert subscription.subject == f"{domain_name}.b"
        await subscription.unsubscribe()
        await subscription.unsubscribe()
        with pytest.raises(NoResponders):
            await client.request(f"{domain_name}.b")
        assert not request_arrived.is_set()
    await other.unsubscribe()


async def test_a_callback_that_fails_is_logged_and_the_next_message_follows(
    client: Client, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    async def fail_first(message: Msg) -> None:
        await received.put(message.data)
        if message.data == b"1":
            raise ZeroDivisionError("on purpose")

    await client.subscribe(f"{domain_name}.a", fail_first)
    await client.publish(f"{domain_name}.a", b"1")
    await client.publish(f"{domain_name}.a", b"2")
    assert [await received.get(), await received.get()] == [b"1", b"2"]
    assert "ZeroDivisionError: on purpose" in caplog.text


async def test_a_listener_that_fails_is_logged_and_the_next_message_follows(
    client: Client, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()

    def fail_first(message: Msg) -> None:
        received.put_nowait(message.data)
        if message.data == b"1":
            raise ZeroDivisionError("on purpose")

    subscription = await client.listen(f"{domain_name}.a", fail_first)
    await client.publish(f"{domain_name}.a", b"1")
    await client.publish(f"{domain_name}.a", b"2")
    await client.flush()
    assert [received.get_nowait(), received.get_nowait()] == [b"1", b"2"]
    assert "ZeroDivisionError: on purpose" in caplog.text
    await subscription.unsubscribe()
    await client.publish(f"{domain_name}.a", b"3")
    await client.flush()
    assert received.empty()


async def test_inboxes_are_separate_from_each_other_and_from_answers(client: Client) -> None:
    first, second = client.new_inbox(), client.new_inbox()
    assert first != second
    received: asyncio.Queue[Msg] = asyncio.Queue()
    for inbox in (first, f"{second}.*"):
        assert inbox.startswith(f"{client.inbox_prefix}.")
        await client.subscribe(inbox, received.put)
    await client.api("INFO")
    await client.publish(f"{second}.5", b"mine")
    assert (await received.get()).data == b"mine"
    assert received.empty()


async def test_a_request_to_jetstream(client: Client, domain_name: str) -> None:
    stream = domain_name.upper()
    body = {"name": stream, "subjects": [f"{domain_name}.>"], "storage": "memory"}
    created = await client.api(f"STREAM.CREATE.{stream}", body)
    assert created["config"]["subjects"] == [f"{domain_name}.>"]
    await client.api(f"STREAM.DELETE.{stream}")


async def test_an_error_of_jetstream(client: Client, domain_name: str) -> None:
    with pytest.raises(JetStreamError) as caught:
        await client.api(f"STREAM.INFO.{domain_name.upper()}")
    error = caught.value
    assert (error.err_code, error.status, error.description) == (10059, 404, "stream not found")


async def test_an_answer_that_is_not_jetstreams(own_client: Client) -> None:
    await echo(own_client, "$JS.API.PARROT")
    with pytest.raises(ClientError, match="not a JetStream answer"):
        await own_client.api("PARROT", [1])


async def test_flush_waits_for_published_messages(client: Client, domain_name: str) -> None:
    received: list[bytes] = []

    async def note(message: Msg) -> None:
        received.append(message.data)

    await client.subscribe(f"{domain_name}.a", note)
    for number in range(100):
        await client.publish(f"{domain_name}.a", b"%d" % number)
    await client.flush()
    assert len(received) == 100


async def test_a_pending_request_fails_when_the_connection_breaks(
    server: EmbeddedServer, own_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    request_arrived = await deaf(own_client, "deaf")
    request = asyncio.create_task(own_client.request("deaf", timeout=3600))
    await request_arrived.wait()
    server.kill()
    with pytest.raises(
        ConnectionLost, match="deaf: the connection was lost; whether the request was"
    ):
        await request
    for call in (own_client.publish("a"), own_client.request("a"), own_client.flush()):
        with pytest.raises(ConnectionLost, match="lost, and not yet back"):
            await call
    assert f"the connection to {redacted_url(server.url)} was lost" in caplog.text


async def test_a_pending_flush_fails_when_the_connection_breaks(
    nats_server: EmbeddedServer,
) -> None:
    async with TcpProxy(nats_server) as proxy, connect(settings_for(proxy.url)) as client:
        proxy.hold()
        flush = asyncio.create_task(client.flush(3600))
        await proxy.until_held(b"PONG")
        proxy.cut()
        with pytest.raises(ConnectionLost):
            await flush


async def test_subscriptions_survive_a_reconnect(
    server: EmbeddedServer, own_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "eventstore")
    happened: list[str] = []
    own_client.on_disconnect(lambda: happened.append("disconnected"))
    own_client.on_reconnect(lambda: happened.append("reconnected"))
    await echo(own_client, "echo")
    await server.restart()
    await own_client.wait_connected(BOUND)
    assert (await own_client.request("echo", b"again")).data == b"again"
    assert happened == ["disconnected", "reconnected"]
    assert f"reconnected to {redacted_url(server.url)}" in caplog.text


async def test_callbacks_can_be_unregistered_and_may_fail(
    server: EmbeddedServer, own_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    happened: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError("on purpose")

    forget = own_client.on_disconnect(lambda: happened.append("never"))
    own_client.on_disconnect(fail)
    own_client.on_disconnect(lambda: happened.append("disconnected"))
    forget()
    forget()
    await server.restart()
    await own_client.wait_connected(BOUND)
    assert happened == ["disconnected"]
    assert "ZeroDivisionError: on purpose" in caplog.text


async def test_one_callback_registered_twice_is_called_twice(
    settings: Settings,
) -> None:
    happened: list[str] = []

    def note() -> None:
        happened.append("closed")

    async with connect(settings) as client:
        client.on_disconnect(note)
        client.on_disconnect(note)
    assert happened == ["closed", "closed"]


async def test_waiting_for_a_connection_is_bounded(
    server: EmbeddedServer, own_client: Client
) -> None:
    lost = asyncio.Event()
    own_client.on_disconnect(lost.set)
    await own_client.wait_connected(0.01)
    await server.stop()
    await lost.wait()
    with pytest.raises(ConnectionLost, match=r"still no connection to .* after 0.05 s"):
        await own_client.wait_connected(0.05)


async def test_connects_to_the_next_server_of_the_pool_when_one_is_down(
    start_server: StartServer,
) -> None:
    first, second = await start_server(), await start_server()
    async with connect(settings_for(f"{first.url},{second.url}")) as client:
        connected, other = (
            (first, second) if client.url == redacted_url(first.url) else (second, first)
        )
        connected.kill()
        lost = asyncio.Event()
        client.on_reconnect(lost.set)
        await lost.wait()
        assert client.url == redacted_url(other.url)


@pytest.mark.parametrize("reconnects", [0, 1])
async def test_closes_after_the_maximum_of_reconnects(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture, reconnects: int
) -> None:
    retry = RetrySettings(max_reconnects=reconnects, reconnect_delay_ms=1, reconnect_jitter_ms=0)
    async with connect(settings_for(server.url, retry=retry)) as client:
        request_arrived = await deaf(client, "deaf")
        request = asyncio.create_task(client.request("deaf", timeout=3600))
        await request_arrived.wait()
        server.kill()
        with pytest.raises(ConnectionLost):
            await request
        with pytest.raises(ConnectionLost, match="the connection is closed"):
            await client.wait_connected(BOUND)
        assert client.is_closed
        with pytest.raises(ConnectionLost, match="is closed"):
            await client.publish("a")
        with pytest.raises(ConnectionLost):
            await client.subscribe("a", asyncio.Queue[Msg]().put)
    assert "closed for good" in caplog.text


async def test_connecting_without_a_server_fails_immediately() -> None:
    with pytest.raises(ConnectFailed) as caught:
        await Client.open(settings_for("nats://ann:s3cret@127.0.0.1:1"))
    assert str(caught.value).startswith("no server answered at nats://***@127.0.0.1:1: ")
    assert "Connect call failed" in str(caught.value)


def first_connect_within(seconds: float) -> RetrySettings:
    return RetrySettings(
        reconnect_delay_ms=10,
        max_reconnect_delay_ms=20,
        reconnect_jitter_ms=0,
        first_connect_ms=int(seconds * 1000),
    )


async def test_a_first_connect_is_retried_until_a_server_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_ports(1)[0]
    url = f"nats://ann:s3cret@127.0.0.1:{port}"
    opening = asyncio.create_task(Client.open(settings_for(url, retry=first_connect_within(BOUND))))

    async def waits() -> bool:
        return "waiting for a server" in caplog.text

    await until(waits)
    ann = "authorization { user: ann, password: s3cret }"
    async with EmbeddedServer(tmp_path / "late", port=port, extra_config=ann):
        client = await opening
        assert await client.api("INFO")
        await client.close()

    waited = [each for each in caplog.records if "waiting for a server" in each.getMessage()]
    assert len(waited) == 1, "said once, and then at intervals"
    assert f"nats://***@127.0.0.1:{port}" in waited[0].getMessage()
    assert "closed for good" not in caplog.text


@pytest.mark.parametrize("pattern", [b"INFO", b"PONG"])
async def test_an_interrupted_first_connect_is_retried(
    nats_server: EmbeddedServer, pattern: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the server accepts, and goes away before the connection is of use."""
    async with TcpProxy(nats_server) as proxy:
        cut = proxy.cut_after(pattern, "to_client", forward=False)
        async with connect(settings_for(proxy.url, retry=first_connect_within(BOUND))) as client:
            await client.flush()
        assert cut.is_set()
    assert "closed for good" not in caplog.text


async def test_a_first_connect_times_out() -> None:
    began = time.monotonic()
    with pytest.raises(ConnectFailed, match="no server answered"):
        await Client.open(settings_for(NOBODY, retry=first_connect_within(0.2)))
    assert 0.2 <= time.monotonic() - began < 9  # by default: 10


async def test_a_first_connect_with_a_permanent_error_is_not_retried(
    start_server: StartServer,
) -> None:
    server = await start_server(extra_config="authorization { user: ann, password: s3cret }")
    async with asyncio.timeout(BOUND / 2):
        with pytest.raises(AuthenticationFailed):
            await Client.open(settings_for(server.url, retry=first_connect_within(60)))
        url = server.url.replace("nats:", "tls:")
        with pytest.raises(ConnectFailed, match="secure connection not available"):
            await Client.open(settings_for(url, retry=first_connect_within(60)))


async def test_a_first_connect_that_waits_can_be_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await Client.open(settings_for(NOBODY, retry=first_connect_within(60)))
    assert "closed for good" not in caplog.text


async def test_connecting_tries_each_server_of_the_pool(nats_server: EmbeddedServer) -> None:
    for url in (f"{NOBODY},{nats_server.url}", f"{nats_server.url},{NOBODY}"):
        async with connect(settings_for(url)) as client:
            assert client.url == redacted_url(nats_server.url)
    with pytest.raises(ConnectFailed, match=f"{NOBODY}, nats://127.0.0.1:2: "):
        await Client.open(settings_for(f"{NOBODY},nats://127.0.0.1:2"))


async def test_a_cancellation_that_comes_with_the_socket_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` of Python 3.11 returns the socket then, and forgets the cancellation."""
    open_connection = asyncio.open_connection
    connecting: list[asyncio.Task[Any]] = []

    async def opened(*arguments: Any, **options: Any) -> Any:
        found = await open_connection(*arguments, **options)
        asyncio.get_running_loop().call_soon(connecting[0].cancel)
        return found

    async with BrokenPeer(info=None) as silent:
        monkeypatch.setattr(asyncio, "open_connection", opened)
        connecting.append(asyncio.create_task(Client.open(settings_for(silent.url))))
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(1):
                await connecting[0]


async def test_a_cancellation_that_comes_with_a_refusal_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`asyncio.wait_for` of Python 3.11 raises the refusal then, and forgets the cancellation."""
    open_connection = asyncio.open_connection
    connecting: list[asyncio.Task[Any]] = []

    async def refused(*arguments: Any, **options: Any) -> Any:
        try:
            return await open_connection(*arguments, **options)
        finally:
            asyncio.get_running_loop().call_soon(connecting[0].cancel)

    monkeypatch.setattr(asyncio, "open_connection", refused)
    settings = settings_for(NOBODY, retry=first_connect_within(60))
    connecting.append(asyncio.create_task(Client.open(settings)))
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await connecting[0]


async def test_connecting_to_a_silent_server_is_bounded() -> None:
    retry = RetrySettings(connect_timeout_ms=50, first_connect_ms=0)
    async with BrokenPeer(info=None) as silent:
        with pytest.raises(ConnectFailed, match="no answer in time"):
            await Client.open(settings_for(silent.url, retry=retry))


async def test_a_connect_that_is_cancelled_leaves_nothing_behind() -> None:
    async with BrokenPeer(info=None) as silent:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await Client.open(settings_for(silent.url))


async def test_too_old_a_server_is_refused() -> None:
    async with BrokenPeer(info={**INFO, "version": "2.10.22"}) as old:
        with pytest.raises(ServerTooOld, match=f"{old.url} is nats-server 2.10.22"):
            await Client.open(settings_for(old.url))


@pytest.mark.skipif(find_spec("aiohttp") is not None, reason="aiohttp is installed")
async def test_websockets_need_aiohttp() -> None:
    with pytest.raises(ConnectFailed, match="pip install aiohttp"):
        await Client.open(settings_for("ws://127.0.0.1:1"))


async def test_denied_permissions(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server(
        extra_config="""authorization { default_permissions {
            publish: {deny: "Secret.>"}, subscribe: {deny: "Other.>"}
        }, users: [{user: ann, password: open-sesame}] }"""
    )
    url = server.url.replace("//", "//ann:open-sesame@")
    async with connect(settings_for(url)) as client:
        with pytest.raises(PermissionDenied, match=r"the server forbids Secret\.plan to this user"):
            await client.request("Secret.plan", timeout=3600)
        request_arrived = await deaf(client, "Other.plan")
        await client.publish("Secret.plan")
        await client.flush()
        assert client.is_connected
        assert not request_arrived.is_set()
    assert 'permissions violation for subscription to "other.plan"' in caplog.text
    assert 'permissions violation for publish to "secret.plan"' in caplog.text
    assert "open-sesame" not in caplog.text


async def test_a_user_without_permission_for_its_inbox_cannot_connect(
    start_server: StartServer,
) -> None:
    server = await start_server(
        extra_config="""authorization { users: [
            {user: ann, password: open-sesame, permissions: {subscribe: {deny: "_INBOX.>"}}}
        ] }"""
    )
    url = server.url.replace("//", "//ann:open-sesame@")
    with pytest.raises(PermissionDenied, match=r"the server forbids _INBOX\.\w+\.\* to this user"):
        await Client.open(settings_for(url))


async def test_closing_fails_pending_requests(settings: Settings, domain_name: str) -> None:
    async with connect(settings) as client:
        request_arrived = await deaf(client, f"{domain_name}.deaf")
        request = asyncio.create_task(client.request(f"{domain_name}.deaf", timeout=3600))
        await request_arrived.wait()
    with pytest.raises(ConnectionLost, match="the connection was closed"):
        await request


async def test_closing_flushes_published_messages(
    settings: Settings, client: Client, domain_name: str
) -> None:
    received: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe(f"{domain_name}.a", received.put)
    await client.flush()
    async with connect(settings) as other:
        await other.publish(f"{domain_name}.a", bytes(1_000_000))
    assert len((await received.get()).data) == 1_000_000


async def test_closing_while_disconnected(server: EmbeddedServer) -> None:
    async with connect(settings_for(server.url)) as client:
        lost = asyncio.Event()
        client.on_disconnect(lost.set)
        await server.stop()
        await lost.wait()
    assert client.is_closed


async def test_closing_does_not_wait_for_a_server_that_hangs(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.client.persistent_connection._CLOSE_SECONDS", 0.05)
    async with asyncio.timeout(BOUND):
        async with connect(settings_for(server.url)) as client:
            freeze(server.pid)
            await client.publish("a", bytes(1_000_000))
    assert client.is_closed
    server.kill()


async def test_a_cancelled_close_still_closes(nats_server: EmbeddedServer) -> None:
    async with TcpProxy(nats_server) as proxy:
        client = await Client.open(settings_for(proxy.url))
        proxy.hold()
        closing = asyncio.create_task(client.close())
        await proxy.until_held(b"PONG")
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert client.is_closed


async def test_an_unopened_client_is_not_connected(settings: Settings) -> None:
    client = connect(settings)
    assert not client.is_connected
    assert client.url == redacted_url(settings.nats.servers[0])
    with pytest.raises(ConnectionLost):
        await client.request("a")
