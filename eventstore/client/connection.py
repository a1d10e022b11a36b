"""nats-py's connection with corrections that the store depends on, and its errors as ours.

The corrected methods are not public in nats-py, so each correction has its own test.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from types import TracebackType

import nats.aio.client
from nats import errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport, Transport
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

from eventstore.client.credentials import url_credentials
from eventstore.client.protocol import (
    Headers,
    Parser,
    UnreadableHeaders,
    header_text,
    read_headers,
)
from eventstore.errors import (
    AuthenticationFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    EventStoreError,
    InvalidMessage,
    InvalidSubject,
    NoResponders,
    RequestTimeout,
)
from eventstore.messages.text import make_log_records_safe

_PING = b"PING\r\n"
_CREDENTIALS = ("user", "password", "token")
_REPORT_SECONDS = 60.0

_logger = make_log_records_safe(logging.getLogger(__name__))


def _exert_back_pressure(transport: Transport | None) -> None:
    """Have asyncio's own transport count what is written to it.

    From Python 3.12 on, its `writelines` does not have whoever awaits `drain` wait: unsent data
    would grow without bound while the server does not read.
    """
    if not isinstance(transport, TcpTransport) or transport._io_writer is None:
        return
    if type(transport._io_writer.transport).__module__ != "asyncio.selector_events":
        return

    def write(lines: Iterable[bytes]) -> None:
        writer = transport._io_writer  # not the same any more once TLS has begun
        if writer is not None:
            writer.write(b"".join(lines))

    transport.writelines = write  # type: ignore[method-assign]


class Message(Msg):
    """A message as it arrived; `block` are the bytes of its headers."""

    _client: Connection

    def __init__(
        self, connection: Connection, subject: bytes, reply: bytes, data: bytes, block: bytes
    ) -> None:
        self._client = connection
        self.subject = subject.decode("utf-8", "backslashreplace")  # nats-py raises
        self.reply = reply.decode("utf-8", "backslashreplace")
        self.data = data
        self.block = block

    @cached_property
    def headers(self) -> dict[str, str] | None:  # type: ignore[override]
        """The headers, parsed when they are first asked for; None if it has none."""
        return self._client._read_headers(self.block)


class Connection(nats.aio.client.Client):
    """A connection that never sends late, never hangs on a dead peer, and never fails silently.

    With `require_tls`, nothing is sent to a server without TLS. `unreadable` counts the messages
    with malformed headers, which are passed on with the headers that could be parsed.
    """

    def __init__(self, *, require_tls: bool = False) -> None:
        super().__init__()
        self._require_tls = require_tls
        self._ps = Parser(self)
        self._shared_credentials: dict[str, object] | None = None
        self._listeners: dict[int, Callable[[Message], None]] = {}
        self.unreadable = 0
        self._reported = -_REPORT_SECONDS
        self._flush_queue = asyncio.Queue()  # `close` needs one, also if the connect failed

    @property
    def server_version(self) -> str:
        """The version that the connected server, or the last one, reports."""
        return str(self._server_info.get("version", ""))

    def ping(self, pong: asyncio.Future[bool]) -> None:
        """Send a PING behind everything published so far; its PONG completes `pong`."""
        self._pongs.append(pong)
        self._queue(_PING)

    async def listen(self, subject: str, callback: Callable[[Message], None]) -> Subscription:
        """Subscribe, and call `callback` for each message as it is read.

        nats-py passes every message through a queue and a task.
        """
        sid = self._sid + 1  # of the next subscription, whose first message may come before it
        self._listeners[sid] = callback
        try:
            return await self.subscribe(subject)
        except BaseException:
            self._listeners.pop(sid, None)
            raise

    async def send_unsubscribe(self, subscription: Subscription) -> None:
        """Unsubscribe at the server only, and go on processing what it has sent."""
        await self._send_unsubscribe(subscription._id)

    def abort(self) -> None:
        """Drop the socket and the unsent data, without waiting for the peer."""
        self._pending.clear()
        self._pending_data_size = 0
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
            self._transport = None  # nats-py would wait for its end, possibly forever

    async def _send_publish(
        self,
        subject: str,
        reply: str,
        payload: bytes,
        payload_size: int,
        headers: Headers | None,
    ) -> None:
        self.send(subject, payload, reply, headers)
        if self._max_pending_size > 0 and self._pending_data_size > self._max_pending_size:
            await self._flush_pending(force_flush=True)

    def send(self, subject: str, payload: bytes, reply: str, headers: Headers | None) -> None:
        """Queue a message for the next write, which takes all that is queued until then.

        Raises `InvalidSubject`, and `InvalidMessage` for one that is too large.
        """
        if not subject or _is_unsendable(subject + reply):
            raise InvalidSubject(f"{subject!r}: the subject is not allowed")
        # nats-py does not count headers against the server's limit, upon which the server closes
        # the connection for good; it changes header values silently; and it is four times slower.
        length = len(payload)
        size = length
        if headers:
            block = header_text(headers)
            in_bytes = len(block) if block.isascii() else len(block.encode())
            size += in_bytes
            head = f"HPUB {subject} {reply} {in_bytes} {size}\r\n{block}"
        else:
            head = f"PUB {subject} {reply} {size}\r\n"
        if size > self._max_payload:
            raise InvalidMessage(
                f"{subject}: the message would have {size:,} bytes; the server's maximum is "
                f"{self._max_payload:,}: send less, or raise max_payload there"
            )
        stats = self.stats
        stats["out_msgs"] += 1
        stats["out_bytes"] += length
        self._queue(b"%b%b\r\n" % (head.encode(), payload))

    def _queue(self, command: bytes) -> None:
        self._pending.append(command)
        self._pending_data_size += len(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        # nats-py raises for some of them, which ends its read loop.
        return self._read_headers(headers)

    def _read_headers(self, block: bytes) -> dict[str, str] | None:
        if not block:
            return None
        read = read_headers(block)
        if isinstance(read, UnreadableHeaders):
            self._report(read.problem)
            return read
        return read or None

    def _report(self, problem: str) -> None:
        self.unreadable += 1
        now = time.monotonic()
        if now - self._reported >= _REPORT_SECONDS:
            self._reported = now
            _logger.warning(
                "received a message with malformed headers: %s (%d so far)",
                problem,
                self.unreadable,
            )

    def _process_msg(  # type: ignore[override]  # only our own parser calls it
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> Awaitable[None] | None:
        # An error, of the message or of a listener, is reported like that of a callback's task,
        # and does not end the read loop.
        listener = self._listeners.get(sid)
        if listener is None:
            return self._pass_on(sid, subject, reply, data, headers)
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        try:
            listener(Message(self, subject, reply, data, headers))
        except Exception as error:
            return self._error_cb(error)
        return None

    async def _pass_on(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception as error:
            await self._error_cb(error)

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        try:
            return Msg(self, subject.decode(), reply.decode(), data, headers)
        except UnicodeDecodeError:  # which nats-py raises
            subject, reply = (
                each.decode(errors="backslashreplace").encode() for each in (subject, reply)
            )
            return self._build_message(sid, subject, reply, data, headers)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._listeners.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # nats-py writes the PING before messages that wait for the flusher, so that its PONG would
        # not confirm them.
        self.ping(future or asyncio.get_running_loop().create_future())

    async def _process_pong(self) -> None:
        # nats-py also completes the future of a cancelled flush, and the resulting error ends its
        # read loop.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _read_loop(self) -> None:
        # nats-py lets an unexpected error end the loop, and stays connected without reading.
        await super()._read_loop()
        task = asyncio.current_task()
        if self.is_connected and not (task and task.cancelling()):
            await self._process_op_err(errors.ProtocolError())

    async def _process_err(self, err_msg: str) -> None:
        # nats-py closes for good on most errors; but expired credentials are replaced, and a
        # server's limit of connections is temporary.
        if PERMISSIONS_ERR in err_msg or STALE_CONNECTION in err_msg:
            await super()._process_err(err_msg)
            return
        error = errors.Error("nats: " + err_msg.strip("'"))
        await self._error_cb(error)
        await self._process_op_err(error)

    async def _attempt_reconnect(self) -> None:
        # nats-py would send unsent data after the reconnect, though it was reported as lost; and
        # it would flush the old socket, which a dead peer blocks forever.
        self.abort()
        await super()._attempt_reconnect()

    async def _connect_to_server(self, s: nats.aio.client.Srv) -> None:
        # nats-py leaves a socket open if connecting got stuck; and a WebSocket library would turn
        # credentials into an HTTP header, which not all of them fit.
        self.abort()
        uri = s.uri
        s.uri = uri._replace(netloc=uri.netloc.rpartition("@")[2])
        try:
            await super()._connect_to_server(s)
            _exert_back_pressure(self._transport)
        finally:
            s.uri = uri
            task = asyncio.current_task()
            if task and task.cancelling():  # `wait_for` before Python 3.12 may lose it
                raise asyncio.CancelledError

    async def _process_connect_init(self) -> None:
        # nats-py treats an end of file instead of the PONG as success.
        await super()._process_connect_init()
        if not self.is_connected:
            raise errors.UnexpectedEOF

    def _connect_command(self) -> bytes:
        # nats-py encrypts only if the server requires it, also with tls:// or a CA.
        if self._require_tls and not self._is_encrypted():
            raise errors.SecureConnWantedError
        self._take_credentials()
        try:
            return super()._connect_command()
        except Exception as error:  # an unusable credentials file would end nats-py's reconnecting
            raise errors.Error(f"the credentials cannot be used: {error}") from error

    def _take_credentials(self) -> None:
        # nats-py does not decode the credentials of a URL, and ignores them if another URL has
        # some.
        if self._shared_credentials is None:
            self._shared_credentials = {name: self.options[name] for name in _CREDENTIALS}
        server = self._current_server
        own = url_credentials(server.uri) if server else {}
        self.options |= own or self._shared_credentials

    def _is_encrypted(self) -> bool:
        scheme = self._current_server.uri.scheme if self._current_server else ""
        return scheme == "wss" or bool(
            self._server_info.get("tls_required") or self.options["tls_handshake_first"]
        )


def _is_unsendable(subjects: str) -> bool:
    """Whether it has white space of the protocol: a line break would begin another command."""
    return " " in subjects or "\n" in subjects or "\r" in subjects or "\t" in subjects


class nats_errors:  # noqa: N801  # read as what it does: `with nats_errors("greet"):`
    """Maps nats-py's errors to ours; their text begins with `what` was being done.

    A class, because it is entered for every message: a generator takes twice as long.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, errors.Error | OSError):
            raise _mapped(error, self._what) from error


def _mapped(error: Exception, what: str) -> EventStoreError:
    match error:
        case TimeoutError():
            return RequestTimeout(f"{what}: no answer in time")
        case errors.AuthorizationError():
            return AuthenticationFailed(f"{what}: the server refused the credentials")
        case errors.NoServersError():
            return ConnectFailed(f"{what}: no server answered")
        case errors.NoRespondersError():
            return NoResponders(f"{what}: no responders")
        case errors.BadSubjectError():
            return InvalidSubject(f"{what}: the subject is not allowed")
        case errors.MaxPayloadError():
            return InvalidMessage(f"{what}: the message exceeds the server's maximum payload")
        case (
            OSError()
            | errors.ConnectionClosedError()
            | errors.ConnectionDrainingError()
            | errors.ConnectionReconnectingError()
            | errors.OutboundBufferLimitError()
            | errors.StaleConnectionError()
        ):
            return ConnectionLost(f"{what}: {error}")
        case _:
            return ClientError(f"{what}: {error}")
