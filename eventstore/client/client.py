"""The connection to NATS: connect, ask, publish, subscribe.

A request that is under way fails at once when the connection breaks, and nothing is sent later
that its caller was told is lost.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar, overload

import msgspec
import nats.aio.client
from nats import errors as nats_py
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from eventstore.client.api_answers import read_answer
from eventstore.client.connection import Connection, nats_errors
from eventstore.client.credentials import connect_options, requires_tls
from eventstore.client.first_connect import FirstConnect
from eventstore.client.master_keys import KeyWrapping, configured_master_keys
from eventstore.client.reconnect import ServerRotation
from eventstore.client.replies import PendingReplies, new_token
from eventstore.client.reply_gate import ReplyGate
from eventstore.client.server_version import check_server_version
from eventstore.concurrency.resource import Resource
from eventstore.config import Settings, redacted_url
from eventstore.errors import (
    AuthenticationFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    JetStreamError,
    NoJetStream,
    NoResponders,
    RequestTimeout,
)
from eventstore.jetstream.vocabulary import API_PREFIX, NO_JETSTREAM
from eventstore.text import make_log_records_safe

__all__ = ["Client", "Msg", "Subscription", "connect", "nats_errors"]

_CLOSE_SECONDS = 2.0
_BACKLOG_BYTES = 8 * 1024 * 1024
_DENIED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]+)"')

_logger = make_log_records_safe(logging.getLogger(__name__))

T = TypeVar("T")

Unregister = Callable[[], None]
C = TypeVar("C")


def connect(
    settings: Settings, *, name: str | None = None, key_wrapping: KeyWrapping | None = None
) -> Client:
    """A client to be opened by `async with`; `name` is shown by the server's monitoring.

    `key_wrapping` takes the place of the settings' master keys.

        async with connect(settings) as client:
            answer = await client.request("greet", b"hello")

    Where no server answers, that is tried again for `nats.retry.first_connect_ms`, ten seconds
    where it is not set; a wait of more than three is logged as a warning.

    Opening raises `ConnectFailed`, `AuthenticationFailed`, `PermissionDenied` (no right to an
    inbox), `ServerTooOld` and `ConfigurationError` (a file of credentials that cannot be used);
    this itself `ConfigurationError` where the settings' master keys cannot be read.
    """
    return Client(settings, name=name, key_wrapping=key_wrapping)


class Subscription:
    """Interest in a subject; ends with `unsubscribe` or with the client."""

    def __init__(self, subscription: NatsSubscription) -> None:
        self._subscription = subscription

    @property
    def subject(self) -> str:
        """The subject subscribed to."""
        return self._subscription.subject

    @property
    def number(self) -> int:
        """What the server knows it by on this connection."""
        return self._subscription._id

    async def worked_off(self) -> None:
        """Return when the callback has had all that has come; never, where it was ended before."""
        await self._subscription._pending_queue.join()

    async def unsubscribe(self) -> None:
        """End it; does nothing where it has ended or the connection is closed."""
        with suppress(nats_py.Error):
            await self._subscription.unsubscribe()


class Client(Resource):
    """One connection to NATS that reconnects by itself; made by `connect`.

    Its methods raise `ConnectionLost` while it is disconnected, and `InvalidMessage` or one of
    its kinds for what may not be sent. `key_wrapping` holds the master keys with which the keys of
    personal data are wrapped that come and go over this connection; None where there are none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        name: str | None = None,
        key_wrapping: KeyWrapping | None = None,
    ) -> None:
        self.key_wrapping = key_wrapping or configured_master_keys(settings.personal)
        self._settings = settings.nats
        self._name = name or settings.nats.service.name
        self._nats = self._new_connection()
        self._rotation = ServerRotation(settings.nats.retry)
        self._inbox_prefix = f"{settings.nats.inbox_prefix}.{new_token()}"
        self._answers = PendingReplies()
        self._gate = ReplyGate.of(settings.nats)
        self._refusals: list[Exception] | None = None  # a list while connecting at first
        self._is_hopeless = False
        self._up = False
        self._settled = asyncio.Event()  # set while connected, and when closed for good
        self._closing = False
        self._disconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._reconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._denied_callbacks: dict[object, Callable[[str], None]] = {}

    @classmethod
    async def open(cls, settings: Settings, *, name: str | None = None) -> Client:
        """An open client, to be closed with `close`; raises what `connect` says."""
        return await cls(settings, name=name).__aenter__()

    async def _enter(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.close)
        await self._connect_patiently()
        check_server_version(self.server_version, self.url)
        _logger.info("connected to %s", self.url)

    @property
    def nats(self) -> nats.aio.client.Client:
        """The connection below, for what this class does not offer."""
        return self._nats

    @property
    def url(self) -> str:
        """The server connected to, or else all that may be, without credentials."""
        connected = self._nats.connected_url
        servers = self._settings.servers if connected is None else (connected.geturl(),)
        return ",".join(map(redacted_url, servers))

    @property
    def server_version(self) -> str:
        """The version of the server connected to, or of the last one."""
        return self._nats.server_version

    @property
    def max_payload(self) -> int:
        """Bytes of headers and payload together that the server takes in one message."""
        return self._nats.max_payload

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._nats.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good, by `close` or because the reconnects are used up."""
        return self._nats.is_closed

    @property
    def refused_answers(self) -> int:
        """How many answers were not sent, for what they were to be sent to is no inbox."""
        return self._gate.refused

    @property
    def malformed_messages(self) -> int:
        """How many messages came with malformed headers."""
        return self._nats.unreadable

    @property
    def _has_reconnected(self) -> bool:
        return bool(self._nats.stats["reconnects"])

    @property
    def inbox_prefix(self) -> str:
        """What every inbox of this client starts with."""
        return self._inbox_prefix

    def new_inbox(self) -> str:
        """A subject nobody else has or can guess; subjects below it are free for its owner too."""
        return f"{self._inbox_prefix}.s.{new_token()}"

    def api_subject(self, suffix: str) -> str:
        """The subject of a request to JetStream's API, wherever the settings say that is."""
        return f"{self._settings.api_prefix}.{suffix}"

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        timeout: float = 5.0,
    ) -> Msg:
        """Ask, and return the first answer; `timeout` is seconds.

        Raises `RequestTimeout`, `ConnectionLost` (at once, when the connection breaks) and
        `PermissionDenied`, after all of which what was asked may have been done or not; and
        `NoResponders`, after which it was not.
        """
        self._check_connected(subject)

        def send(token: str, _: object) -> Awaitable[None]:
            reply = f"{self._inbox_prefix}.{token}"
            return self._nats.publish(subject, payload, reply, headers)

        answer: Msg = await self._answers.awaited(subject, timeout, send)
        if not answer.data and answer.headers and answer.headers.get("Status") == "503":
            raise NoResponders(f"nobody listens on {subject}")
        return answer

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: dict[str, str] | None = None,
        reply: str = "",
    ) -> None:
        """Hand a message to the connection; waits only while very much is unsent.

        That the server got it is not guaranteed: `flush` says so, or a `request` in its place.
        What is not written when the connection breaks is dropped, never sent later.
        """
        self._check_connected(subject)
        with nats_errors(f"publish on {subject}"):
            await self._nats.publish(subject, payload, reply, headers)
        if self._nats.pending_data_size > _BACKLOG_BYTES:
            await self.flush()

    def may_respond(self, reply: str, what: str) -> bool:
        """Whether a reply subject is an inbox; where it is not, that is logged with `what`."""
        return self._gate.passes(reply, what)

    async def respond(
        self, reply: str, payload: bytes, *, headers: dict[str, str] | None = None, what: str
    ) -> None:
        """Answer what was asked on `what`, if the reply subject is an inbox.

        To any other nothing is sent; that is logged. Raises what `publish` raises.
        """
        if self.may_respond(reply, what):
            await self.publish(reply, payload, headers=headers)

    @overload
    async def api(
        self, suffix: str, body: object = None, *, timeout: float = 5.0
    ) -> dict[str, Any]: ...

    @overload
    async def api(
        self, suffix: str, body: object = None, *, timeout: float = 5.0, answer: type[T]
    ) -> T: ...

    async def api(
        self, suffix: str, body: object = None, *, timeout: float = 5.0, answer: Any = dict
    ) -> Any:
        """Ask JetStream on `{nats.api_prefix}.{suffix}`; what it answers, as an `answer`.

        Raises `JetStreamError` where the answer is an error, `InvalidAnswer` where it is not of
        that type, and what `request` raises.
        """
        subject = self.api_subject(suffix)
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            message = await self.request(subject, payload, timeout=timeout)
            return read_answer(subject, message.data, answer)
        except NoResponders:
            if self._settings.api_prefix != API_PREFIX or self._has_reconnected:
                raise  # another account serves it, or what was there may come again
            raise NoJetStream(
                f"JetStream is not enabled on {self.url}: start nats-server with -js, or with "
                "jetstream {} in its configuration"
            ) from None
        except JetStreamError as error:
            if error.err_code not in NO_JETSTREAM or self._has_reconnected:
                raise
            raise NoJetStream(
                f"JetStream is not enabled for this user's account on {self.url}: enable it in "
                "the server's configuration (accounts { NAME { jetstream: enabled } }), or "
                "connect as a user of an account that has it"
            ) from error

    async def subscribe(
        self, subject: str, callback: Callable[[Msg], Awaitable[None]], *, queue: str = ""
    ) -> Subscription:
        """Have `callback` awaited for each message, one after another, also after reconnects.

        Nothing bounds what may wait for a slow callback. What is sent while disconnected is
        missed. An error the callback raises is logged, and the next message follows.
        """
        with nats_errors(f"subscribe to {subject}"):
            subscription = await self._nats.subscribe(
                subject, queue, callback, pending_msgs_limit=0, pending_bytes_limit=0
            )
        return Subscription(subscription)

    async def listen(self, subject: str, callback: Callable[[Msg], None]) -> Subscription:
        """Have `callback` called for each message as it is read, also after reconnects.

        As `subscribe` does, but at once, for what only notes a message and waits for nothing: all
        else that is read waits for the callback.
        """
        with nats_errors(f"subscribe to {subject}"):
            return Subscription(await self._nats.listen(subject, callback))

    async def silence(self, *subscriptions: Subscription) -> None:
        """Have the server send subscriptions no more, and wait for what it has sent.

        All of that has been handed to the callbacks, or their queues, when this returns;
        `unsubscribe` stops to listen before the server has stopped to send. Raises what `flush`
        raises.
        """
        for subscription in subscriptions:
            with nats_errors(f"end {subscription.subject}"):
                await self._nats.send_unsubscribe(subscription.number)
        await self.flush()

    async def flush(self, timeout: float = 5.0) -> None:
        """Return when the server has processed everything published so far.

        Raises `RequestTimeout` and `ConnectionLost`.
        """
        self._check_connected("flush")
        await self._answers.awaited("flush", timeout, self._ping)

    async def wait_connected(self, timeout: float) -> None:
        """Return when there is a connection; raises `ConnectionLost` after `timeout` seconds.

        Also when it is closed for good.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            raise ConnectionLost(f"still no connection to {self.url} after {timeout:g} s") from None
        if self.is_closed:
            raise ConnectionLost("the connection is closed")

    def on_disconnect(self, callback: Callable[[], None]) -> Unregister:
        """Have `callback` called when the connection breaks or is closed."""
        return _register(self._disconnect_callbacks, callback)

    def on_reconnect(self, callback: Callable[[], None]) -> Unregister:
        """Have `callback` called when there is a connection again and subscriptions are renewed."""
        return _register(self._reconnect_callbacks, callback)

    def on_denied(self, callback: Callable[[str], None]) -> Unregister:
        """Have `callback` called with a subject, in lower case, that the server forbids us."""
        return _register(self._denied_callbacks, callback)

    async def close(self) -> None:
        """Send what is published, fail what is under way, and close; takes 4 s at the most."""
        self._closing = True
        try:
            await self.flush(_CLOSE_SECONDS)
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._nats.close()
        except (ClientError, TimeoutError) as error:
            _logger.info("closing without a farewell: %s", error)
        finally:
            self._nats.abort()
            await self._nats.close()
            await self._disconnected()
            await self._closed()

    def _new_connection(self) -> Connection:
        return Connection(require_tls=requires_tls(self._settings))

    async def _connect_patiently(self) -> None:
        """Connect, again and again while no server answers; what cannot pass is raised at once."""
        retry_timeout = FirstConnect(self._settings.retry)
        while True:
            try:
                await self._connect()
                await self._listen()
            except ConnectFailed as error:
                if self._is_hopeless or retry_timeout.is_over:
                    raise
                retry_timeout.report(error)
                await self._begin_again()
            else:
                self._rotation.reset()
                return
            await retry_timeout.pause(self._rotation.next_round())

    async def _begin_again(self) -> None:
        """Leave the connection that failed for a new one; nobody has seen it."""
        self._closing, self._up = True, False
        self._nats.abort()
        await self._nats.close()
        self._closing = False
        self._settled.clear()
        self._nats = self._new_connection()

    async def _connect(self) -> None:
        options = connect_options(self._settings)
        self._refusals = []
        try:
            async with asyncio.timeout(options["connect_timeout"] * len(options["servers"])):
                with nats_errors("connect"):
                    await self._nats.connect(
                        **options,
                        name=self._name,
                        error_cb=self._failed,
                        disconnected_cb=self._disconnected,
                        reconnected_cb=self._reconnected,
                        closed_cb=self._closed,
                        reconnect_to_server_handler=self._rotation.next_server,
                    )
        except TimeoutError:
            raise self._refused() from None
        finally:
            self._refusals = None
        self._up = True
        self._settled.set()

    async def _listen(self) -> None:
        inbox = f"{self._inbox_prefix}.*"
        with nats_errors("listen on the inbox"):
            await self._nats.listen(inbox, self._receive)
        timeout = self._settings.retry.connect_timeout_ms / 1000
        try:
            # Where the right to listen is missing, the error comes before the PONG, and names it.
            await self._answers.awaited(inbox, timeout, self._ping)
        except (ConnectionLost, RequestTimeout) as error:
            raise ConnectFailed(f"{self.url} did not keep the new connection") from error

    def _refused(self) -> ClientError:
        refusals = self._refusals or []
        self._is_hopeless = bool(refusals) and all(map(_never_passes, refusals))
        servers = ", ".join(map(redacted_url, self._settings.servers))
        if any(_is_about_credentials(refusal) for refusal in refusals):
            return AuthenticationFailed(f"the server refused the credentials: {servers}")
        causes = dict.fromkeys(str(refusal) or "no answer in time" for refusal in refusals)
        return ConnectFailed(
            f"no server answered at {servers}: {'; '.join(causes) or 'no answer in time'}"
        )

    def _ping(self, _: str, pong: asyncio.Future[bool]) -> Awaitable[None]:
        return self._nats.ping(pong)

    def _receive(self, message: Msg) -> None:
        self._answers.deliver(message.subject[len(self._inbox_prefix) + 1 :], message)

    def _check_connected(self, what: str) -> None:
        if not self._nats.is_connected:
            state = "closed" if self.is_closed else "lost, and not yet back"
            raise ConnectionLost(f"{what}: the connection to {self.url} is {state}")

    async def _disconnected(self) -> None:
        state = "closed" if self._closing else "lost"
        self._answers.fail_all(f"the connection was {state}; whether it was done is not known")
        if self._up:
            self._up = False
            self._settled.clear()
            level = logging.INFO if self._closing else logging.WARNING
            _logger.log(level, "the connection to %s was %s", self.url, state)
            _call(self._disconnect_callbacks)

    async def _reconnected(self) -> None:
        self._rotation.reset()
        self._up = True
        self._settled.set()
        _logger.info("reconnected to %s", self.url)
        _call(self._reconnect_callbacks)

    async def _closed(self) -> None:
        self._settled.set()  # those who wait wake up and find it closed
        if not self._closing:
            _logger.error("%s: closed for good: %s", self.url, self._nats.last_error)

    async def _failed(self, error: Exception) -> None:
        if self._refusals is not None:
            self._nats.abort()  # nats-py would wait for the end of a failed TLS handshake for ever
            self._refusals.append(error)
            if len(self._refusals) >= len(self._settings.servers):
                raise self._refused() from error  # the only way out of nats-py's endless tries
        elif denied := _DENIED.search(str(error)):
            _logger.error("%s: %s", self.url, error)
            self._answers.deny(denied[1])
            for callback in list(self._denied_callbacks.values()):
                callback(denied[1])
        elif isinstance(error, (nats_py.Error, OSError)):
            _logger.warning("%s: %s", self.url, error or type(error).__name__)
        else:
            _logger.error("the callback of a subscription failed", exc_info=error)


def _never_passes(error: Exception) -> bool:
    """Whether the settings, the server's or ours, are to be changed before a connect succeeds."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False  # which a server that is about to end causes, too
    return isinstance(error, ssl.SSLError | ImportError | nats_py.SecureConnWantedError)


def _is_about_credentials(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, nats_py.Error) and (
        "authorization" in text or "authentication" in text
    )


def _register(callbacks: dict[object, C], callback: C) -> Unregister:
    key = object()
    callbacks[key] = callback

    def unregister() -> None:
        callbacks.pop(key, None)

    return unregister


def _call(callbacks: dict[object, Callable[[], None]]) -> None:
    for callback in list(callbacks.values()):
        try:
            callback()
        except Exception:
            _logger.exception("a callback of the connection failed")
