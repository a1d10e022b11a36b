"""The command client: `send` waits until a command is accepted, `execute` for its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime

from eventstore.client.client import Client, Msg
from eventstore.client.replies import new_token
from eventstore.commands.command_message import CommandMessage
from eventstore.commands.composer import Composer, expectation
from eventstore.commands.execution import Execution
from eventstore.commands.outcomes import Outcomes
from eventstore.commands.scheduling import (
    ScheduledCommand,
    schedule_of,
    scheduled_command,
    timer_command_id,
)
from eventstore.commands.sent import SentCommand, SentCommands, sent_command
from eventstore.concurrency.resource import Resource
from eventstore.concurrency.timer_wheel import TimerWheel
from eventstore.jetstream.acceptance import queue_command
from eventstore.jetstream.publish import PubAck
from eventstore.messages.codec import Codec
from eventstore.messages.context import current
from eventstore.messages.envelope import (
    Identity,
    MessageId,
    checked_clock,
    utc_now,
)
from eventstore.messages.headers import (
    REPLY_TO,
)
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import AggregateId
from eventstore.messages.types import Command
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from eventstore.timers.schedule import Delay, Schedule, WhenPast, check_timer_name
from eventstore.timers.timer import timer_draft
from eventstore.timers.timers import Timers, set_timer

_FIRST_PAUSE = 1.0


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
        self._composer = Composer(client, codec, self._clock, telemetry)
        self._timers = Timers(client, codec.subjects)
        self._inbox = client.new_inbox()
        self._sent = SentCommands(client, outcomes or Outcomes(client, codec.subjects))
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
            return sent_command(
                message, PubAck(self._codec.subjects.timer_stream, sequence), schedule.at
            )
        with self._composer.span(command, cause) as span:
            message = self._composer.compose(
                command, aggregate_id, command_id, cause, actor, span, expectation(expected)
            )
            stream = self._codec.subjects.command_stream
            ack = await queue_command(self._client, message.draft, timeout, stream=stream)
        sent = sent_command(message, ack)
        self._sent.remember(sent)
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
        schedule = schedule_of(
            self._clock(),
            at=at,
            after=after,
            cron=cron,
            time_zone=time_zone,
            past=past,
            command_id=command_id,
            expected=expected,
        )
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
        with self._composer.span(command, cause) as span:
            message = self._composer.compose(
                *(command, aggregate_id, command_id, cause, actor, span, expectation(expected)),
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
        extra = {REPLY_TO: f"{self._inbox}.{token}"}
        if expected is not None:
            extra |= expectation(expected)
        with self._composer.span(command, cause) as span:
            message = self._composer.compose(
                command, aggregate_id, command_id, cause, actor, span, extra
            )
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
                return execution.outcome or await self._sent.awaited(execution, deadline, timeout)
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
        return await self._sent.outcome(command_id)

    def _receive(self, message: Msg) -> None:
        execution = self._waiting.get(message.subject.rpartition(".")[2])
        if execution is not None:
            execution.receive(message)

    def _look(self, token: str) -> None:
        """No reply has come for some time."""
        execution = self._waiting.get(token)
        if execution is not None:
            execution.look()
