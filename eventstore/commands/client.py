"""The command client: `send` waits until a command is accepted, `execute` for its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime

import msgspec

from eventstore.client.client import Client, Msg
from eventstore.client.replies import new_token
from eventstore.commands.command_message import CommandMessage
from eventstore.commands.execution import Execution
from eventstore.commands.outcomes import Outcomes
from eventstore.commands.scheduling import (
    ScheduledCommand,
    check_recurring,
    scheduled_command,
    timer_command_id,
)
from eventstore.concurrency.resource import Resource
from eventstore.concurrency.timer_wheel import TimerWheel
from eventstore.errors import (
    ClientError,
    CommandIdReused,
    CommandTimeout,
    InvalidHeader,
    InvalidMessage,
    InvalidTimer,
    PermissionDenied,
    RequestTimeout,
    StreamMissing,
    UnknownType,
)
from eventstore.jetstream.publish import PubAck, check_sizes, publish_queued
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
    PROCESS,
    REPLY_TO,
    Header,
    expected_version_of,
)
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.types import Command
from eventstore.telemetry import NO_TELEMETRY, Span, Telemetry
from eventstore.timers.schedule import Delay, Schedule, WhenPast, check_timer_name
from eventstore.timers.timer import timer_draft
from eventstore.timers.timers import Timers, set_timer

_FIRST_PAUSE = 1.0
_SHORTEST_PAUSE = 0.05
_MAX_PAUSE = 5.0
_MAX_REMEMBERED = 1_000


class SentCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A command that the server has accepted: it is durable and will be carried out once.

    `sequence` is its sequence in the command stream. `duplicate`: the same id had been accepted
    before, within the stream's duplicate window, and this was not stored; only its outcome shows
    whether it was the same command. `digest` distinguishes it from another with the same id. `due`
    is when the server will queue it, if it was sent for later: until then, its id is the name of a
    timer, and `sequence` that of the timer in its stream.
    """

    command_id: str
    correlation_id: str
    aggregate_id: str
    sequence: int
    duplicate: bool
    digest: str | None = None
    due: datetime | None = None


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
        self._timers = Timers(client, codec.subjects)
        self._inbox = client.new_inbox()
        self._sent: dict[str, SentCommand] = {}
        self._waiting: dict[str, Execution] = {}
        self._wheel = TimerWheel[str](self._look)

    async def _enter(self, stack: AsyncExitStack) -> None:
        subscription = await self._client.listen(f"{self._inbox}.*", self._receive)
        stack.push_async_callback(subscription.unsubscribe)
        stack.callback(self._wheel.stop)

    async def send(
        self,
        command: Command,
        aggregate_id: AggregateId | None = None,
        *,
        command_id: MessageId | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        expected: int | None = None,
        at: datetime | None = None,
        after: Delay | None = None,
        past: WhenPast = "fire",
        timeout: float = 5.0,
    ) -> SentCommand:
        """Send a command to the server; when this returns, the command is durable.

        With `at`, a time, or `after`, a delay, the server keeps it until then (see `schedule`, for
        `past` and what is raised as well): its name as a timer is its id.

        `expected` is the version that the aggregate must have when the command is decided, 0 if it
        must not exist: with another it is rejected with the code `conflict`, and not decided again.
        A command sent again with another expectation is another command, and needs a new id.

        Raises `InvalidMessage` for a command that may not be sent, `EventTooLarge`, `QueueFull`,
        and another `ClientError` if the server did not accept it, or if that is not known (repeat
        it with the same id).
        """
        if at is not None or after is not None:
            schedule = Schedule.once(self._clock(), at=at, after=after, past=past)
            message, sequence = await self._set_timer(
                *(None, schedule, command, aggregate_id, command_id, cause, actor, expected),
                timeout=timeout,
            )
            return _sent(message, PubAck(self._codec.subjects.timer_stream, sequence), schedule.at)
        with self._span(command, cause) as span:
            message = self._message(
                command, aggregate_id, command_id, cause, actor, span, _expectation(expected)
            )
            stream = self._codec.subjects.command_stream
            ack = await publish_queued(self._client, message.draft, timeout, stream=stream)
        sent = _sent(message, ack)
        self._remember(sent)
        return sent

    async def schedule(
        self,
        name: str,
        command: Command,
        aggregate_id: AggregateId | None = None,
        *,
        at: datetime | None = None,
        after: Delay | None = None,
        cron: str | None = None,
        time_zone: str | None = None,
        past: WhenPast = "fire",
        command_id: MessageId | None = None,
        cause: Identity | None = None,
        actor: str | None = None,
        expected: int | None = None,
        timeout: float = 5.0,
    ) -> ScheduledCommand:
        """Set a timer: have the server queue a command later, whether or not a process runs then.

        It is due once, at the time `at` or after the delay `after` (a `timedelta`, or seconds), or
        repeatedly: `cron` is an expression of five fields, or of six with seconds first, or
        `@daily`, `@every 90s` and so on, in a `time_zone` such as `Europe/Berlin` (UTC without).
        Whatever had the same name, 1 to 256 of A-Z, a-z, 0-9, '_' and '-', is replaced. A time in
        the past is due now, or refused if `past` says so.

        The other arguments are as in `send`. Without a `command_id`, the same name, time and
        command have the same id: setting the timer again in doubt leads to one execution even if it
        has fired, with another time to another one. Inside a handler, the id is derived from the
        handled message and the name instead. Each command of a recurring timer has its own id.

        It is due up to 0.3 seconds late, and no order among timers is guaranteed. Raises what
        `send` raises, `InvalidTimer` and `TimerInPast`.
        """
        check_timer_name(name)
        if [at, after, cron].count(None) != 2:
            raise InvalidTimer(
                "a timer needs either a time (at), a delay (after), or a cron expression (cron)"
            )
        if cron is not None:
            schedule = Schedule.recurring(cron, time_zone)
            check_recurring(command_id, expected)
        elif time_zone is not None:
            raise InvalidTimer("a time zone is for cron expressions only")
        else:
            schedule = Schedule.once(self._clock(), at=at, after=after, past=past)
        message, _ = await self._set_timer(
            *(name, schedule, command, aggregate_id, command_id, cause, actor, expected),
            timeout=timeout,
        )
        return scheduled_command(message, name, schedule, creates=aggregate_id is None)

    async def cancel(self, name: str, *, timeout: float = 5.0) -> bool:
        """Cancel a timer by its name; returns whether one was waiting, and will not fire.

        False if it has fired, or is due in this moment: its command may be carried out, now or
        later. A recurring one that is due in this moment may fire once more. Raises `InvalidTimer`
        for an illegal name, and `ClientError`.
        """
        return await self._timers.cancel(check_timer_name(name), timeout)

    async def _set_timer(
        self,
        name: str | None,
        schedule: Schedule,
        command: Command,
        aggregate_id: AggregateId | None,
        command_id: MessageId | None,
        cause: Identity | None,
        actor: str | None,
        expected: int | None,
        *,
        timeout: float,
    ) -> tuple[CommandMessage, int]:
        """Set a timer, named after its command's id if it has no name."""
        subjects = self._codec.subjects
        if command_id is None and (cause is not None or current() is None):
            command_id = timer_command_id(subjects, name, schedule, command, aggregate_id)
        with self._span(command, cause) as span:
            message = self._message(
                *(command, aggregate_id, command_id, cause, actor, span, _expectation(expected)),
                name and f"timer {name}",
            )
            draft = timer_draft(
                *(message.draft, name or message.identity.id, schedule, subjects),
                creates=aggregate_id is None,
            )
            stream = subjects.timer_stream
            return message, await set_timer(self._client, draft, timeout, stream=stream)

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
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        token = new_token()
        extra = {REPLY_TO: f"{self._inbox}.{token}"} | _expectation(expected)
        with self._span(command, cause) as span:
            message = self._message(command, aggregate_id, command_id, cause, actor, span, extra)
            execution = Execution(message, self._codec.subjects.command_stream)
            self._waiting[token] = execution
            draft = message.draft
            forget = None
            try:
                forget = self._client.request_soon(
                    execution, draft.subject, draft.payload, draft.lines
                )
                self._wheel.add(token, min(_FIRST_PAUSE, timeout))
                await execution.changed
                return execution.outcome or await self._looked_up(execution, deadline, timeout)
            finally:
                del self._waiting[token]
                if forget is not None:
                    forget()

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

    async def _looked_up(self, execution: Execution, deadline: float, timeout: float) -> Outcome:
        """The outcome of a command for which no reply has come, until the deadline.

        None comes if the connection broke, or if the command's id had been sent before.
        """
        message = execution.message
        try:
            async with asyncio.timeout_at(deadline):
                return await self._found(execution)
        except CommandIdReused as error:
            aggregate, aggregate_id = message.aggregate, message.envelope.aggregate_id
            return Outcome.error(error, message.identity.id, aggregate, aggregate_id)
        except TimeoutError:
            if execution.ack is None:
                raise RequestTimeout(
                    f"{message.draft.subject}: no answer after {timeout:g} s"
                ) from None
            self._remember(_sent(message, execution.ack))
            raise CommandTimeout(message.identity.id, timeout) from None

    async def _found(self, execution: Execution) -> Outcome:
        """The outcome from the bucket, or from a late reply.

        Raises `CommandIdReused` if the id had been sent before with another command.
        """
        pause, may_ask = _SHORTEST_PAUSE, True
        while execution.outcome is None:
            if execution.error is not None:
                raise execution.error
            if execution.ack is not None and may_ask:
                try:
                    known = await self._outcome_of(_sent(execution.message, execution.ack))
                except PermissionDenied:
                    may_ask = False
                else:
                    execution.outcome = execution.outcome or known
            if execution.outcome is None:
                await execution.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE)
        return execution.outcome

    async def _outcome_of(self, sent: SentCommand) -> Outcome | None:
        since = 0 if sent.duplicate else sent.sequence
        try:
            return await self._outcomes.get(
                sent.command_id, since=since, digest=sent.digest, sequence=sent.sequence
            )
        except PermissionDenied:
            raise
        except (ClientError, StreamMissing):  # disconnected, perhaps
            return None

    def _span(self, command: Command, cause: Identity | None) -> Span:
        handling = current() if cause is None else None
        given = handling.traceparent if handling else None
        return self._telemetry.span("send", traceparent=given, type=type(command).__name__)

    def _message(
        self,
        command: Command,
        aggregate_id: AggregateId | None,
        command_id: MessageId | None,
        cause: Identity | None,
        actor: str | None,
        span: Span,
        extra: dict[str, str],
        name: str | None = None,
    ) -> CommandMessage:
        """The command as it is sent; raises `InvalidMessage` and `EventTooLarge`.

        Its id is derived from a handled message and a name; by default, that of its recipient.
        """
        cls = type(command)
        if not hasattr(cls, "__aggregate__"):
            raise InvalidMessage(f"{command!r} is no command: its class has no subject")
        if self._codec.command_type(cls.__aggregate__, cls.__action__) is not cls:
            raise UnknownType(f"{cls.__name__} is not registered in {self._codec.domain}")
        handling = current() if cause is None else None
        if handling is not None:
            name = name or f"command {cls.__aggregate__}.{aggregate_id or ''}.{cls.__name__}"
            identity = handling.caused(name, command_id)
            if command_id is None:
                extra[ID_DERIVED] = "1"
            if handling.process is not None:
                extra[PROCESS] = handling.process
        elif cause is not None:
            identity = Identity.caused_by(cause, command_id)
        else:
            identity = Identity.root(command_id)
        envelope = Envelope(
            identity=identity,
            type=cls.__name__,
            domain=self._codec.domain,
            timestamp=format_timestamp(self._clock()),
            schema_version=cls.__schema_version__,
            aggregate_id=recipient(command, aggregate_id, identity.id),
            actor=actor or (handling.actor if handling else None),
            traceparent=span.traceparent,
        )
        is_own = cause is None and handling is None and envelope.actor is None
        message = CommandMessage(self._codec, command, envelope, extra, is_checked=is_own)
        check_sizes([message.draft], self._client.max_payload)
        return message

    def _remember(self, sent: SentCommand) -> None:
        """Remember a command whose outcome was not returned to its sender."""
        self._sent.pop(sent.command_id, None)
        self._sent[sent.command_id] = sent
        if len(self._sent) > _MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def _receive(self, message: Msg) -> None:
        execution = self._waiting.get(message.subject.rpartition(".")[2])
        if execution is not None:
            execution.receive(message)

    def _look(self, token: str) -> None:
        """No reply has come for some time."""
        execution = self._waiting.get(token)
        if execution is not None:
            execution.look()


def _sent(message: CommandMessage, ack: PubAck, due: datetime | None = None) -> SentCommand:
    return SentCommand(
        command_id=message.identity.id,
        correlation_id=message.identity.correlation_id,
        aggregate_id=str(message.envelope.aggregate_id),
        sequence=ack.seq,
        duplicate=ack.duplicate,
        digest=message.digest,
        due=due,
    )


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


def _expectation(version: int | None) -> dict[str, str]:
    """The header of an expected version; raises `InvalidHeader` for an illegal one."""
    if version is None:
        return {}
    headers = {EXPECTED_VERSION: str(version)}
    expected_version_of(headers)
    return headers
