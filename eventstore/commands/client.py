"""The command client: `send` waits until a command is accepted, `execute` for its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime

import msgspec

from eventstore.client.client import Client, Msg
from eventstore.client.replies import new_token
from eventstore.commands.digest import digest_of, without_data
from eventstore.commands.outcomes import Outcomes
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ClientError,
    CommandIdReused,
    CommandTimeout,
    InvalidHeader,
    InvalidMessage,
    PermissionDenied,
    StreamMissing,
    UnknownType,
)
from eventstore.jetstream.publish import Draft, check_sizes, publish_queued
from eventstore.messages.codec import Codec
from eventstore.messages.context import current
from eventstore.messages.envelope import (
    Envelope,
    Identity,
    MessageId,
    check_message_id,
    checked_clock,
    derive_id,
    format_timestamp,
    utc_now,
)
from eventstore.messages.headers import (
    EXPECTED_VERSION,
    ID_DERIVED,
    REPLY_TO,
    Header,
    expected_version_of,
)
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_FIRST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.05
_MAX_PAUSE = 5.0
_MAX_REMEMBERED = 1_000


class SentCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command that the server has accepted: it is durable and will be carried out once.

    `sequence` is its sequence in the command stream. `duplicate`: the same id had been accepted
    before, within the stream's duplicate window, and this was not stored; only its outcome shows
    whether it was the same command. `digest` distinguishes it from another with the same id.
    """

    command_id: str
    correlation_id: str
    aggregate_id: str
    sequence: int
    duplicate: bool
    digest: str | None = None


class CommandClient(Resource):
    """Sends the commands of a domain; an async context manager.

    A command without a `command_id` gets a new one; to repeat a command when in doubt, use the same
    id: it is carried out once. `cause` is the message that leads to the command, `actor` on whose
    behalf it is sent.

    Inside a handler (see `eventstore.messages.context`) neither is needed: a command is caused by
    the message handled there, has its correlation and trace, is sent on behalf of the same actor,
    and has an id derived from it. When the message is redelivered, the same commands are sent and
    carried out once; the data sent first win. This requires that the handler sends commands of one
    type to one aggregate in the same order each time; let a failure to send end the handler, which
    is then called again. Explicit arguments take precedence: with a `cause`, the handled message
    does not count.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        outcomes: Outcomes | None = None,
        clock: Callable[[], datetime] = utc_now,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._codec = codec
        self._clock = checked_clock(clock)
        self._telemetry = telemetry
        self._outcomes = outcomes or Outcomes(client, codec.subjects)
        self._inbox = client.new_inbox()
        self._sent: dict[str, SentCommand] = {}
        self._waiting: dict[str, tuple[str, asyncio.Future[Outcome]]] = {}

    async def _enter(self, stack: AsyncExitStack) -> None:
        subscription = await self._client.listen(f"{self._inbox}.*", self._receive)
        stack.push_async_callback(subscription.unsubscribe)

    async def send(
        self,
        command: Command,
        aggregate_id: AggregateId | None = None,
        *,
        command_id: MessageId | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        expected: int | None = None,
        timeout: float = 5.0,
    ) -> SentCommand:
        """Send a command to the server; when this returns, the command is durable.

        `expected` is the version that the aggregate must have when the command is decided, 0 if it
        must not exist: with another it is rejected with the code `conflict`, and not decided again.
        A command sent again with another expectation is another command, and needs a new id.

        Raises `InvalidMessage` for a command that may not be sent, `EventTooLarge`, `QueueFull`,
        and another `ClientError` if the server did not accept it, or if that is not known (repeat
        it with the same id).
        """
        envelope = self._envelope(command, aggregate_id, command_id, cause, actor)
        extra = _id_header(command_id, cause) | _expectation(expected)
        sent = await self._send(command, envelope, extra, timeout)
        self._remember(sent)
        return sent

    async def execute(
        self,
        command: Command,
        aggregate_id: AggregateId | None = None,
        *,
        command_id: MessageId | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        expected: int | None = None,
        timeout: float = 10.0,
    ) -> Outcome:
        """Send a command and wait for its outcome; a rejection is an outcome, not an exception.

        `expected` is as in `send`.
        An id that was used before for another command leads to an error with the code
        `command_id_reused`. Raises what `send` raises, and `CommandTimeout` `timeout` seconds
        after it was called: the command stays accepted and may still be carried out; `outcome`
        returns its outcome later.
        """
        envelope = self._envelope(command, aggregate_id, command_id, cause, actor)
        loop = asyncio.get_running_loop()
        began = loop.time()
        token = new_token()
        answered: asyncio.Future[Outcome] = loop.create_future()
        self._waiting[token] = envelope.identity.id, answered
        sent = None
        try:
            extra = {REPLY_TO: f"{self._inbox}.{token}", **_id_header(command_id, cause)}
            extra |= _expectation(expected)
            sent = await self._send(command, envelope, extra, timeout)
            async with asyncio.timeout(began + timeout - loop.time()):
                return await self._awaited(sent, answered)
        except CommandIdReused as error:
            aggregate = type(command).__aggregate__
            return Outcome.error(error, envelope.identity.id, aggregate, envelope.aggregate_id)
        except TimeoutError:
            if sent is not None:
                self._remember(sent)
            raise CommandTimeout(envelope.identity.id, timeout) from None
        finally:
            del self._waiting[token]

    async def outcome(self, command_id: MessageId) -> Outcome | None:
        """The outcome of a command sent earlier; None if there is none yet, or if it has expired.

        An error is the last one: the command may have been repeated or retried since. The last
        thousand commands that were sent by `send`, or timed out, are distinguished from others with
        the same id: if the stored outcome is another's, it is an error with the code
        `command_id_reused`. Raises `InvalidId` for an id that is not a UUID.
        """
        command_id = check_message_id(command_id)
        sent = self._sent.get(command_id)
        if sent is None:
            return await self._outcomes.get(command_id)
        try:
            return await self._outcomes.get(command_id, digest=sent.digest, sequence=sent.sequence)
        except CommandIdReused as error:
            return Outcome.error(error, command_id, aggregate_id=sent.aggregate_id)

    async def _awaited(self, sent: SentCommand, answered: asyncio.Future[Outcome]) -> Outcome:
        """The outcome from the reply, or from the bucket if no reply arrives.

        None arrives if the connection broke, or if the command's id had been sent before. Raises
        `CommandIdReused` if it had, with another command.
        """
        since = 0 if sent.duplicate else sent.sequence
        pause = 0.0 if sent.duplicate else _FIRST_PAUSE
        while not (await asyncio.wait([answered], timeout=pause))[0]:
            try:
                known = await self._outcomes.get(
                    sent.command_id, since=since, digest=sent.digest, sequence=sent.sequence
                )
            except PermissionDenied:
                break
            except (ClientError, StreamMissing):  # disconnected, perhaps
                known = None
            if known is not None:
                return known
            pause = min(max(2 * pause, _SHORTEST_PAUSE), _MAX_PAUSE)
        return await answered

    def _envelope(
        self,
        command: Command,
        aggregate_id: AggregateId | None,
        command_id: MessageId | None,
        cause: Identity | None,
        actor: str | None,
    ) -> Envelope:
        cls = type(command)
        if not hasattr(cls, "__aggregate__"):
            raise InvalidMessage(f"{command!r} is no command: its class has no subject")
        if self._codec.command_type(cls.__aggregate__, cls.__action__) is not cls:
            raise UnknownType(f"{cls.__name__} is not registered in {self._codec.domain}")
        handling = current() if cause is None else None
        if handling is not None:
            name = f"command {cls.__aggregate__}.{aggregate_id or ''}.{cls.__name__}"
            identity = handling.caused(name, command_id)
        elif cause is not None:
            identity = Identity.caused_by(cause, command_id)
        else:
            identity = Identity.root(command_id)
        return Envelope(
            identity=identity,
            type=cls.__name__,
            domain=self._codec.domain,
            timestamp=format_timestamp(self._clock()),
            schema_version=cls.__schema_version__,
            aggregate_id=recipient(command, aggregate_id, identity.id),
            actor=actor or (handling.actor if handling else None),
            traceparent=handling.traceparent if handling else None,
        )

    async def _send(
        self, command: Command, envelope: Envelope, extra: dict[str, str], timeout: float
    ) -> SentCommand:
        cls = type(command)
        subject = self._codec.subjects.command(cls.__aggregate__, cls.__action__)
        payload, as_read = self._codec.round_trip(command)
        given = envelope.traceparent
        with self._telemetry.span("send", traceparent=given, type=cls.__name__) as span:
            traced = msgspec.structs.replace(envelope, traceparent=span.traceparent)
            headers = traced.to_headers() | extra
            check_sizes([Draft(subject, headers, payload, cls.__name__)], self._client.max_payload)
            stream = self._codec.subjects.command_stream
            ack = await publish_queued(self._client, subject, payload, headers, timeout, stream)
        own, aggregate_id = envelope.identity.id, str(envelope.aggregate_id)
        digest = digest_of(as_read, aggregate_id, own, payload, expected_version_of(extra))
        return SentCommand(
            command_id=own,
            correlation_id=envelope.identity.correlation_id,
            aggregate_id=aggregate_id,
            sequence=ack.seq,
            duplicate=ack.duplicate,
            digest=without_data(digest) if ID_DERIVED in extra else digest,
        )

    def _remember(self, sent: SentCommand) -> None:
        """Remember a command whose outcome was not returned to its sender."""
        self._sent.pop(sent.command_id, None)
        self._sent[sent.command_id] = sent
        if len(self._sent) > _MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def _receive(self, message: Msg) -> None:
        command_id, waiting = self._waiting.get(message.subject.rpartition(".")[2], ("", None))
        if waiting is None or waiting.done():
            return
        outcome = Outcome.of(command_id, message.data)
        if outcome is not None:  # anybody may send something else
            waiting.set_result(outcome)


def recipient(command: Command, aggregate_id: AggregateId | None, command_id: str) -> str:
    """The id of the aggregate that a command is for, derived from its own if it may have none.

    Raises `InvalidHeader` and `InvalidId`.
    """
    cls = type(command)
    if aggregate_id is not None:
        return check_aggregate_id(aggregate_id)
    if not cls.__creates__:
        raise InvalidHeader(
            Header.AGGREGATE_ID,
            f"is missing: {cls.__name__} needs the id of its {cls.__aggregate__} (--id)",
        )
    return derive_id(command_id, "aggregate")


def _id_header(command_id: MessageId | None, cause: Identity | None) -> dict[str, str]:
    """The header that marks an id as derived from the handled message, if it is."""
    is_derived = command_id is None and cause is None and current() is not None
    return {ID_DERIVED: "1"} if is_derived else {}


def _expectation(version: int | None) -> dict[str, str]:
    """The header of an expected version; raises `InvalidHeader` for an illegal one."""
    if version is None:
        return {}
    headers = {EXPECTED_VERSION: str(version)}
    expected_version_of(headers)
    return headers
