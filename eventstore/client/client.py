"""The connection to NATS: connect, request, publish, subscribe.

When the connection breaks, pending requests fail immediately, and nothing is sent after the
reconnect that was reported to its caller as lost.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar, overload

import msgspec
import nats.aio.client
from nats import errors as nats_py
from nats.aio.msg import Msg as Msg
from nats.aio.subscription import Subscription as NatsSubscription

from eventstore.client.api_answers import read_answer
from eventstore.client.connection import Connection, nats_errors
from eventstore.client.credentials import connect_options, requires_tls
from eventstore.client.master_keys import KeyWrapping, configured_master_keys
from eventstore.client.protocol import Headers
from eventstore.client.reconnect import FirstConnect, ServerRotation
from eventstore.client.replies import PendingReplies, Receiver, new_token
from eventstore.client.reply_gate import ReplyGate
from eventstore.client.server_version import check_server_version
from eventstore.concurrency.batching import Batchable, own_task
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

    `key_wrapping` replaces the settings' master keys.

        async with connect(settings) as client:
            answer = await client.request("greet", b"hello")

    If no server answers, it retries for `nats.retry.first_connect_ms` (default: ten seconds); a
    wait of more than three seconds is logged as a warning.

    Opening raises `ConnectFailed`, `AuthenticationFailed`, `PermissionDenied` (for the inbox),
    `ServerTooOld` and `ConfigurationError` (an unusable credentials file); this call itself raises
    `ConfigurationError` if the settings' master keys cannot be read.
    """
    return Client(settings, name=name, key_wrapping=key_wrapping)


class OutgoingMessage(NamedTuple):
    """A message to be sent."""

    subject: str
    payload: bytes = b""
    headers: Headers | None = None


class Subscription:
    """Interest in a subject; ends with `unsubscribe` or with the client."""

    def __init__(self, subscription: NatsSubscription) -> None:
        self._subscription = subscription

    @property
    def subject(self) -> str:
        """The subject subscribed to."""
        return self._subscription.subject

    async def processed(self) -> None:
        """Return when the callback has processed all received messages; never after its end."""
        await self._subscription._pending_queue.join()

    async def unsubscribe(self) -> None:
        """End it; does nothing if it has ended or the connection is closed."""
        with suppress(nats_py.Error):
            await self._subscription.unsubscribe()


class Client(Resource):
    """One connection to NATS that reconnects automatically; made by `connect`.

    Its methods raise `ConnectionLost` while it is disconnected, and `InvalidMessage` or a subclass
    for a message that may not be sent. All its inboxes begin with `inbox_prefix`. `key_wrapping`
    has the master keys for the keys of personal data that are sent and received over this
    connection; None if there are none.
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
        self._name = name or settings.nats.service.name or "eventstore"
        self._nats = Connection(require_tls=requires_tls(settings.nats))
        self._rotation = ServerRotation(settings.nats.retry)
        self.inbox_prefix = f"{settings.nats.inbox_prefix}.{new_token()}"
        self._answers = PendingReplies()
        self._gate = ReplyGate(settings.nats)
        self._refusals: list[Exception] | None = None  # a list during the first connect
        self._is_permanent = False
        self._up = False
        self._settled = asyncio.Event()  # set while connected, and when closed for good
        self._closing = False
        self._disconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._reconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._denied_callbacks: dict[object, Callable[[str], None]] = {}

    @classmethod
    async def open(cls, settings: Settings) -> Client:
        """An open client, to be closed with `close`; raises what `connect` raises."""
        return await cls(settings).__aenter__()

    async def _enter(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self.close)
        await self._connect_with_retries()
        check_server_version(self.server_version, self.url)
        _logger.info("connected to %s", self.url)

    @property
    def nats(self) -> nats.aio.client.Client:
        """The underlying nats-py connection, for what this class does not offer."""
        return self._nats

    @property
    def url(self) -> str:
        """The connected server, or else all configured ones, without credentials."""
        connected = self._nats.connected_url
        servers = self._settings.servers if connected is None else (connected.geturl(),)
        return ",".join(map(redacted_url, servers))

    @property
    def server_version(self) -> str:
        """The version of the connected server, or of the last one."""
        return self._nats.server_version

    @property
    def max_payload(self) -> int:
        """The server's limit for headers and payload of one message, in bytes."""
        return self._nats.max_payload

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._nats.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good, by `close` or after the last reconnect attempt."""
        return self._nats.is_closed

    def protect(self, domain: str) -> None:
        """Never answer to a subject of this domain, whatever the settings call an inbox."""
        self._gate.protect(domain)

    @property
    def refused_answers(self) -> int:
        """The number of answers that were not sent because the reply subject is no inbox."""
        return self._gate.refused

    @property
    def malformed_messages(self) -> int:
        """The number of received messages with malformed headers."""
        return self._nats.unreadable

    @property
    def _has_reconnected(self) -> bool:
        return bool(self._nats.stats["reconnects"])

    def new_inbox(self) -> str:
        """A unique subject that nobody can guess; subjects below it may be used, too."""
        return f"{self.inbox_prefix}.s.{new_token()}"

    def api_subject(self, suffix: str) -> str:
        """The subject of a request to JetStream's API, under the prefix of the settings."""
        return f"{self._settings.jetstream_api}.{suffix}"

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Headers | None = None,
        timeout: float = 5.0,
    ) -> Msg:
        """Send a request, and return the first answer; `timeout` is seconds.

        Raises `RequestTimeout`, `ConnectionLost` (immediately when the connection breaks) and
        `PermissionDenied`, after which the request may have been processed or not; and
        `NoResponders`, after which it was not.
        """
        message = OutgoingMessage(subject, payload, headers)
        return await _Exchange(self, (message,), timeout)

    async def request_after(
        self, leading: Sequence[OutgoingMessage], last: OutgoingMessage, *, timeout: float = 5.0
    ) -> Msg:
        """Send messages one after another; the answer to the last one, as of `request`."""
        return await _Exchange(self, (*leading, last), timeout)

    def request_soon(
        self,
        receiver: Receiver,
        subject: str,
        payload: bytes,
        headers: Headers | None = None,
    ) -> Unregister:
        """Send a request, and pass its answers, or an error instead, to `receiver`.

        It gets all answers until it is done, or what is returned is called. No answer in time is
        no error, and that there are no responders is an answer; others are as of `request`.
        """
        self._check_connected(subject)
        token = self._answers.await_by(receiver, subject)
        try:
            self._nats.send(subject, payload, f"{self.inbox_prefix}.{token}", headers)
        except BaseException:
            self._answers.forget(token)
            raise
        return partial(self._answers.forget, token)

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        *,
        headers: Headers | None = None,
        reply: str = "",
    ) -> None:
        """Hand a message to the connection; waits only while more than 8 MB are unsent.

        That the server received it is not guaranteed: use `flush`, or a `request` instead. What is
        unsent when the connection breaks is dropped, never sent later.
        """
        self._check_connected(subject)
        self._nats.send(subject, payload, reply, headers)
        if self._nats.pending_data_size > _BACKLOG_BYTES:
            await own_task()
            await self.flush()

    def may_respond(self, reply: str, what: str) -> bool:
        """Whether a reply subject is an inbox; if it is not, that is logged with `what`."""
        return self._gate.passes(reply, what)

    async def respond(
        self, reply: str, payload: bytes, *, headers: dict[str, str] | None = None, what: str
    ) -> None:
        """Answer a request on the subject `what`, if the reply subject is an inbox.

        To any other, nothing is sent, and that is logged. Raises what `publish` raises.
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
        """Send a request to JetStream on `{prefix of its API}.{suffix}`; returns an `answer`.

        Raises `JetStreamError` for an error, `InvalidAnswer` for an answer of another type, and
        what `request` raises.
        """
        subject = self.api_subject(suffix)
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            message = await self.request(subject, payload, timeout=timeout)
            return read_answer(subject, message.data, answer)
        except NoResponders:
            if self._settings.jetstream_api != API_PREFIX or self._has_reconnected:
                raise  # another account serves it, or JetStream may be back soon
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
        """Await `callback` for each message, one after another, also after reconnects.

        The queue in front of a slow callback is unbounded. Messages that are sent while it is
        disconnected are missed. An error of the callback is logged, and the next message follows.
        """
        with nats_errors(f"subscribe to {subject}"):
            subscription = await self._nats.subscribe(
                subject, queue, callback, pending_msgs_limit=0, pending_bytes_limit=0
            )
        return Subscription(subscription)

    async def listen(self, subject: str, callback: Callable[[Msg], None]) -> Subscription:
        """Call `callback` for each message as it is read, also after reconnects.

        Unlike `subscribe`, it has no queue. For callbacks that return quickly: they block the
        reading of all other messages.
        """
        with nats_errors(f"subscribe to {subject}"):
            return Subscription(await self._nats.listen(subject, callback))

    async def stop_deliveries(self, *subscriptions: Subscription) -> None:
        """Unsubscribe at the server, and wait for the messages that it has sent.

        When this returns, they have been passed to the callbacks, or to their queues;
        `unsubscribe` drops those that arrive after it. Raises what `flush` raises.
        """
        for subscription in subscriptions:
            with nats_errors(f"end {subscription.subject}"):
                await self._nats.send_unsubscribe(subscription._subscription)
        await self.flush()

    async def flush(self, timeout: float = 5.0) -> None:
        """Return when the server has processed everything published so far.

        Raises `RequestTimeout` and `ConnectionLost`.
        """
        self._check_connected("flush")
        await self._answers.awaited("flush", timeout, self._ping)

    async def wait_connected(self, timeout: float) -> None:
        """Return when it is connected; raises `ConnectionLost` after `timeout` seconds.

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
        """Call `callback` when the connection breaks or is closed."""
        return _register(self._disconnect_callbacks, callback)

    def on_reconnect(self, callback: Callable[[], None]) -> Unregister:
        """Call `callback` after a reconnect, when the subscriptions are renewed."""
        return _register(self._reconnect_callbacks, callback)

    def on_denied(self, callback: Callable[[str], None]) -> Unregister:
        """Call `callback` with a subject, in lower case, for which the server denies permission."""
        return _register(self._denied_callbacks, callback)

    async def close(self) -> None:
        """Flush, fail pending requests, and close; takes 4 s at most."""
        self._closing = True
        try:
            await self.flush(_CLOSE_SECONDS)
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._nats.close()
        except (ClientError, TimeoutError) as error:
            _logger.info("closing without a flush: %s", error)
        finally:
            self._nats.abort()
            await self._nats.close()
            await self._disconnected()
            await self._closed()

    async def _connect_with_retries(self) -> None:
        """Connect, with retries while no server answers; raises permanent errors immediately."""
        first_connect = FirstConnect(self._settings.retry)
        while True:
            try:
                await self._connect()
                await self._listen()
            except ConnectFailed as error:
                if self._is_permanent or first_connect.is_over:
                    raise
                first_connect.report(error)
                await self._replace_connection()
            else:
                self._rotation.reset()
                return
            await first_connect.pause(self._rotation.next_round())

    async def _replace_connection(self) -> None:
        """Drop the failed connection, which nothing has used yet, for a new one."""
        self._closing, self._up = True, False
        self._nats.abort()
        await self._nats.close()
        self._closing = False
        self._settled.clear()
        self._nats = Connection(require_tls=requires_tls(self._settings))

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
        inbox = f"{self.inbox_prefix}.*"
        with nats_errors("listen on the inbox"):
            await self._nats.listen(inbox, self._receive)
        timeout = self._settings.retry.connect_timeout_ms / 1000
        try:
            # If the permission to subscribe is missing, its error arrives before the PONG.
            await self._answers.awaited(inbox, timeout, self._ping)
        except (ConnectionLost, RequestTimeout) as error:
            raise ConnectFailed(f"{self.url} closed the new connection") from error

    def _refused(self) -> ClientError:
        refusals = self._refusals or []
        self._is_permanent = bool(refusals) and all(map(_is_permanent, refusals))
        servers = ", ".join(map(redacted_url, self._settings.servers))
        if any(_is_about_credentials(refusal) for refusal in refusals):
            return AuthenticationFailed(f"the server refused the credentials: {servers}")
        causes = dict.fromkeys(str(refusal) or "no answer in time" for refusal in refusals)
        return ConnectFailed(
            f"no server answered at {servers}: {'; '.join(causes) or 'no answer in time'}"
        )

    def _ping(self, _: str, pong: asyncio.Future[bool]) -> None:
        self._nats.ping(pong)

    def _receive(self, message: Msg) -> None:
        self._answers.deliver(message.subject[len(self.inbox_prefix) + 1 :], message)

    def _check_connected(self, what: str) -> None:
        if not self._nats.is_connected:
            raise self._not_connected(what)

    def _not_connected(self, what: str) -> ConnectionLost:
        state = "closed" if self.is_closed else "lost, and not yet back"
        return ConnectionLost(f"{what}: the connection to {self.url} is {state}")

    async def _disconnected(self) -> None:
        state = "closed" if self._closing else "lost"
        self._answers.fail_all(
            f"the connection was {state}; whether the request was processed is unknown"
        )
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
        self._settled.set()  # wakes up `wait_connected`
        if not self._closing:
            _logger.error("%s: closed for good: %s", self.url, self._nats.last_error)

    async def _failed(self, error: Exception) -> None:
        if self._refusals is not None:
            self._nats.abort()  # nats-py would wait forever for the end of a failed TLS handshake
            self._refusals.append(error)
            if len(self._refusals) >= len(self._settings.servers):
                raise self._refused() from error  # the only way out of nats-py's endless retries
        elif denied := _DENIED.search(str(error)):
            _logger.error("%s: %s", self.url, error)
            self._answers.deny(denied[1])
            for callback in list(self._denied_callbacks.values()):
                callback(denied[1])
        elif isinstance(error, (nats_py.Error, OSError)):
            _logger.warning("%s: %s", self.url, error or type(error).__name__)
        else:
            _logger.error("the callback of a subscription failed", exc_info=error)


class _Exchange(Batchable[Msg]):
    """Messages that are sent, and the answer to the last one."""

    __slots__ = ("_client", "_messages", "_timeout")

    def __init__(self, client: Client, messages: Sequence[OutgoingMessage], timeout: float) -> None:
        self._client = client
        self._messages = messages
        self._timeout = timeout

    @property
    def kind(self) -> Hashable:
        return self._client

    async def alone(self) -> Msg:
        client, subject = self._client, self._messages[-1].subject
        client._check_connected(subject)
        answer: Msg = await client._answers.awaited(subject, self._timeout, self._send)
        if is_unanswerable(answer):
            raise _nobody(subject)
        return answer

    async def together(self, batch: Sequence[_Exchange]) -> Sequence[Msg | Exception]:
        client, subjects = self._client, [each._messages[-1].subject for each in batch]
        if not client.is_connected:
            return [client._not_connected(subject) for subject in subjects]

        def send(token: str) -> None:
            for index, each in enumerate(batch):
                each._send(f"{token}{index}")

        timeout = max(each._timeout for each in batch)
        answers = await client._answers.awaited_together(subjects, timeout, send)
        return [
            _nobody(subject) if isinstance(each, Msg) and is_unanswerable(each) else each
            for subject, each in zip(subjects, answers, strict=True)
        ]

    def _send(self, token: str, _: object = None) -> None:
        send = self._client._nats.send
        *leading, last = self._messages
        for each in leading:
            send(each.subject, each.payload, "", each.headers)
        reply = f"{self._client.inbox_prefix}.{token}"
        send(last.subject, last.payload, reply, last.headers)


def is_unanswerable(answer: Msg) -> bool:
    """Whether the server answered that nobody takes the request."""
    return not answer.data and answer.headers is not None and answer.headers.get("Status") == "503"


def _nobody(subject: str) -> NoResponders:
    return NoResponders(f"no responders on {subject}")


def _is_permanent(error: Exception) -> bool:
    """Whether no retry can succeed before the server's settings, or ours, are changed."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False  # also caused by a server that is shutting down
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
