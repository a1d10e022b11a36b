"""Commands that were sent, and their outcomes, looked up if no reply has come."""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec

from eventstore.client.client import Client
from eventstore.commands.command_message import CommandMessage
from eventstore.commands.execution import Execution
from eventstore.commands.outcomes import Outcomes
from eventstore.errors import (
    ClientError,
    CommandIdReused,
    CommandTimeout,
    JetStreamError,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    StreamMissing,
)
from eventstore.jetstream.acceptance import queue_command
from eventstore.jetstream.publish import PubAck
from eventstore.messages.envelope import MessageId, check_message_id
from eventstore.messages.outcome import Outcome

_SHORTEST_PAUSE = 0.05
_MAX_PAUSE = 5.0
_AGAIN_SECONDS = 5.0
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


def sent_command(message: CommandMessage, ack: PubAck, due: datetime | None = None) -> SentCommand:
    """A command that the server has accepted."""
    return SentCommand(
        command_id=message.identity.id,
        correlation_id=message.identity.correlation_id,
        aggregate_id=str(message.envelope.aggregate_id),
        sequence=ack.seq,
        duplicate=ack.duplicate,
        digest=message.digest,
        due=due,
    )


class SentCommands:
    """The last thousand commands whose outcomes were not returned, and how outcomes are found.

    Of a command that is remembered, the outcome is distinguished from another's with the same id.
    """

    def __init__(self, client: Client, outcomes: Outcomes) -> None:
        self._client = client
        self._outcomes = outcomes
        self._sent: dict[str, SentCommand] = {}

    def remember(self, sent: SentCommand) -> None:
        """Remember a command whose outcome was not returned to its sender."""
        self._sent.pop(sent.command_id, None)
        self._sent[sent.command_id] = sent
        if len(self._sent) > _MAX_REMEMBERED:
            del self._sent[next(iter(self._sent))]

    async def outcome(self, command_id: MessageId) -> Outcome | None:
        """The outcome of a command, as `CommandClient.outcome`."""
        command_id = check_message_id(command_id)
        sent = self._sent.get(command_id)
        if sent is None:
            return await self._outcomes.get(command_id)
        try:
            return await self._outcomes.get(command_id, digest=sent.digest, sequence=sent.sequence)
        except CommandIdReused as error:
            return Outcome.error(error, command_id, aggregate_id=sent.aggregate_id)

    async def awaited(self, execution: Execution, deadline: float, timeout: float) -> Outcome:
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
            if execution.error is not None:
                raise execution.error from None
            if execution.ack is None:
                raise RequestTimeout(
                    f"{message.draft.subject}: no answer after {timeout:g} s"
                ) from None
            self.remember(sent_command(message, execution.ack))
            raise CommandTimeout(message.identity.id, timeout) from None

    async def _found(self, execution: Execution) -> Outcome:
        """The outcome from the bucket, or from a late reply.

        Raises `CommandIdReused` if the id had been sent before with another command.
        """
        pause, may_ask = _SHORTEST_PAUSE, True
        while execution.outcome is None:
            if execution.error is not None:
                await self._send_again(execution)
            if execution.ack is not None and may_ask:
                try:
                    known = await self._outcome_of(sent_command(execution.message, execution.ack))
                except PermissionDenied:
                    may_ask = False
                else:
                    execution.outcome = execution.outcome or known
            if execution.outcome is None:
                await execution.wait(pause)
                pause = min(2 * pause, _MAX_PAUSE)
        return execution.outcome

    async def _send_again(self, execution: Execution) -> None:
        """Send a command again that was not accepted, if that may help; raises why it was not."""
        error = execution.error
        if error is not None and not _may_pass(error):
            raise error
        draft, stream = execution.message.draft, execution.stream
        try:
            execution.ack = await queue_command(self._client, draft, _AGAIN_SECONDS, stream=stream)
        except RequestTimeout:
            return
        execution.error = None

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


def _may_pass(error: Exception) -> bool:
    """Whether the stream may have no leader, or be storing a message with the same id."""
    return isinstance(error, NoResponders | JetStreamError) and error.retryable
