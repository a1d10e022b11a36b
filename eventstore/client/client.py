"""The connection to NATS: connect, request, publish, subscribe.

When the connection breaks, pending requests fail immediately, and nothing is sent after the
reconnect that was reported to its caller as lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, overload

import msgspec
import nats.aio.client
from nats import errors as nats_py
from nats.aio.msg import Msg as Msg
from nats.aio.subscription import Subscription as NatsSubscription

from eventstore.client.api_answers import read_answer
from eventstore.client.connection import Message as Message
from eventstore.client.connection import nats_errors
from eventstore.client.master_keys import KeyWrapping, configured_master_keys
from eventstore.client.persistent_connection import PersistentConnection, Unregister
from eventstore.client.protocol import Headers
from eventstore.client.replies import Receiver, new_token
from eventstore.client.reply_gate import ReplyGate
from eventstore.concurrency.batching import Batchable, own_task
from eventstore.config import Settings
from eventstore.errors import JetStreamError, NoJetStream, NoResponders
from eventstore.jetstream.vocabulary import API_PREFIX, NO_JETSTREAM

_BACKLOG_BYTES = 8 * 1024 * 1024

T = TypeVar("T")


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


class Outgoing(Protocol):
    """A message to be sent."""

    @property
    def subject(self) -> str:
        """Where to."""

    @property
    def payload(self) -> bytes:
        """Its data."""

    @property
    def lines(self) -> Headers | None:
        """Its headers."""


class _Request(NamedTuple):
    subject: str
    payload: bytes
    lines: Headers | None


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


class Client(PersistentConnection):
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
        super().__init__(settings.nats, name or settings.nats.service.name or "eventstore")
        self.key_wrapping = key_wrapping or configured_master_keys(settings.personal)
        self._gate = ReplyGate(settings.nats)

    @classmethod
    async def open(cls, settings: Settings) -> Client:
        """An open client, to be closed with `close`; raises what `connect` raises."""
        return await cls(settings).__aenter__()

    @property
    def nats(self) -> nats.aio.client.Client:
        """The underlying nats-py connection, for what this class does not offer."""
        return self._nats

    @property
    def max_payload(self) -> int:
        """The server's limit for headers and payload of one message, in bytes."""
        return self._nats.max_payload

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

    def new_inbox(self) -> str:
        """A unique subject that nobody can guess; subjects below it may be used, too."""
        return f"{self.inbox_prefix}.s.{new_token()}"

    def api_subject(self, suffix: str) -> str:
        """The subject of a request to JetStream's API, under the prefix of the settings."""
        return f"{self._settings.jetstream_api}.{suffix}"

    @property
    def domain_prefix(self) -> str:
        """What precedes the subject of a bucket's key if JetStream is in a domain; "" otherwise.

        Servers pass `$KV` to no other domain.
        """
        return "" if self._settings.jetstream_domain is None else self.api_subject("")

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
        answer = await _Exchange(self, (_Request(subject, payload, headers),), timeout)
        if is_unanswerable(answer):
            raise NoResponders(f"no responders on {subject}: no service that answers it is running")
        return answer

    def exchange(self, messages: Sequence[Outgoing], *, timeout: float = 5.0) -> Awaitable[Msg]:
        """Messages to be sent when it is awaited; the answer to the last one, as of `request`.

        That there are no responders is an answer.
        """
        return _Exchange(self, messages, timeout)

    def request_soon(
        self,
        receiver: Receiver,
        subject: str,
        payload: bytes,
        headers: Headers | None = None,
        *,
        timeout: float | None = None,
    ) -> Unregister:
        """Send a request, and pass its answers, or an error instead, to `receiver`.

        It gets all answers until it is done, or what is returned is called. That there are no
        responders is an answer; errors are as of `request`, but without a `timeout` in seconds, no
        answer is none.
        """
        self._check_connected(subject)
        token = self._answers.await_by(receiver, subject, timeout)
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
        if self._hand_over(subject, payload, reply, headers):
            await self._work_off()

    def _hand_over(self, subject: str, payload: bytes, reply: str, headers: Headers | None) -> bool:
        """Send a message; whether so much is unsent now that the sender has to wait."""
        self._check_connected(subject)
        self._nats.send(subject, payload, reply, headers)
        return self._nats.pending_data_size > _BACKLOG_BYTES

    async def _work_off(self) -> None:
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
        if self._gate.passes(reply, what) and self._hand_over(reply, payload, "", headers):
            await self._work_off()

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

    async def listen(self, subject: str, callback: Callable[[Message], None]) -> Subscription:
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


class _Exchange(Batchable[Msg]):
    """Messages that are sent, and the answer to the last one."""

    __slots__ = ("_client", "_messages", "_timeout")

    def __init__(self, client: Client, messages: Sequence[Outgoing], timeout: float) -> None:
        self.kind = self._client = client
        self._messages = messages
        self._timeout = timeout

    def alone(self) -> Coroutine[Any, Any, Msg]:
        client, subject = self._client, self._messages[-1].subject
        client._check_connected(subject)
        return client._answers.awaited(subject, self._timeout, self._send)

    async def together(self, batch: Sequence[_Exchange]) -> Sequence[Msg | Exception]:
        client, subjects = self._client, [each._messages[-1].subject for each in batch]
        if not client.is_connected:
            return [client._not_connected(subject) for subject in subjects]

        def send(token: str) -> None:
            for index, each in enumerate(batch):
                each._send(f"{token}{index}")

        timeout = max([each._timeout for each in batch])
        return await client._answers.awaited_together(subjects, timeout, send)

    def _send(self, token: str, _: object = None) -> None:
        client, last = self._client, self._messages[-1]
        for each in self._messages[:-1]:
            client._nats.send(each.subject, each.payload, "", each.lines)
        reply = f"{client.inbox_prefix}.{token}"
        client._nats.send(last.subject, last.payload, reply, last.lines)


def is_unanswerable(answer: Msg) -> bool:
    """Whether the server answered that nobody takes the request."""
    return not answer.data and answer.headers is not None and answer.headers.get("Status") == "503"
