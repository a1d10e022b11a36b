"""One connection that lasts: the first connect, reconnects, whom that is reported to, and the end.

When it breaks, pending requests fail immediately.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeVar

from nats import errors as nats_py

from eventstore.client.connection import Connection, Message, nats_errors
from eventstore.client.credentials import connect_options, requires_tls
from eventstore.client.nats_version import check_nats_py
from eventstore.client.reconnect import FirstConnect, ServerRotation
from eventstore.client.replies import PendingReplies, new_token
from eventstore.client.server_version import check_server_version
from eventstore.concurrency.resource import Resource
from eventstore.config import NatsSettings, redacted_url
from eventstore.errors import (
    AuthenticationFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    RequestTimeout,
)
from eventstore.messages.text import make_log_records_safe

_CLOSE_SECONDS = 2.0
_DENIED = re.compile(r'permissions violation for (?:publish|subscription) to "([^"]+)"')

_logger = make_log_records_safe(logging.getLogger(__name__))

Unregister = Callable[[], None]
C = TypeVar("C")


class PersistentConnection(Resource):
    """One connection to NATS that reconnects automatically.

    The server's monitoring shows it as `name`. All its inboxes begin with `inbox_prefix`.
    """

    def __init__(self, settings: NatsSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._nats = Connection(require_tls=requires_tls(settings))
        self._rotation = ServerRotation(settings.retry)
        self.inbox_prefix = f"{settings.inbox_prefix}.{new_token()}"
        self._answers = PendingReplies()
        self._refusals: list[Exception] | None = None  # a list during the first connect
        self._is_permanent = False
        self._up = False
        self._settled = asyncio.Event()  # set while connected, and when closed for good
        self._closing = False
        self._disconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._reconnect_callbacks: dict[object, Callable[[], None]] = {}
        self._denied_callbacks: dict[object, Callable[[str], None]] = {}

    async def _enter(self, stack: AsyncExitStack) -> None:
        check_nats_py()
        stack.push_async_callback(self.close)
        await self._connect_with_retries()
        check_server_version(self.server_version, self.url)
        _logger.info("connected to %s", self.url)

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
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._nats.is_connected

    @property
    def is_closed(self) -> bool:
        """Whether it is closed for good, by `close` or after the last reconnect attempt."""
        return self._nats.is_closed

    @property
    def _has_reconnected(self) -> bool:
        return bool(self._nats.stats["reconnects"])

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
            raise ConnectionLost("the connection is closed: connect again")

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
            raise ConnectFailed(f"{self.url} closed the new connection; see its log") from error

    def _refused(self) -> ClientError:
        refusals = self._refusals or []
        self._is_permanent = bool(refusals) and all(map(_is_permanent, refusals))
        servers = ", ".join(map(redacted_url, self._settings.servers))
        if any(_is_about_credentials(refusal) for refusal in refusals):
            return AuthenticationFailed(
                f"the server refused the credentials: {servers}; check nats.auth, and the "
                "server's users"
            )
        causes = dict.fromkeys(str(refusal) or "no answer in time" for refusal in refusals)
        return ConnectFailed(
            f"no server answered at {servers}: {'; '.join(causes) or 'no answer in time'}"
        )

    def _ping(self, _: str, pong: asyncio.Future[bool]) -> None:
        self._nats.ping(pong)

    def _receive(self, message: Message) -> None:
        if not self._answers.deliver(message.subject[len(self.inbox_prefix) + 1 :], message):
            _ = message.headers  # which counts them if they are malformed

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
        self._answers.stop()
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
