"""An execution: a command that was sent, and whose sender waits for its outcome."""

from __future__ import annotations

import asyncio

from eventstore.client.client import Msg
from eventstore.commands.command_message import CommandMessage
from eventstore.errors import ClientError
from eventstore.jetstream.publish import PubAck, read_queued
from eventstore.messages.outcome import Outcome


class Execution:
    """A command's acceptance and outcome, or the error instead of them, as they come.

    The connection passes the answer to the command, its acceptance, to `set_result` or
    `set_exception`. `changed` is completed at the outcome, at an error, and when it is time to look
    for the outcome elsewhere: at once if the command's id had been sent before.
    """

    __slots__ = ("ack", "changed", "error", "message", "outcome", "stream")

    def __init__(self, message: CommandMessage, stream: str) -> None:
        self.message = message
        self.ack: PubAck | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.stream = stream
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self, seconds: float) -> None:
        """Wait for the next change, and at most so long."""
        self.changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self.changed], timeout=seconds)

    def look(self) -> None:
        """It is time to look for the outcome."""
        if not self.changed.done():
            self.changed.set_result(None)

    def receive(self, reply: Msg) -> None:
        """Take the outcome from a reply; anybody may send something else."""
        self.outcome = self.outcome or Outcome.of(self.message.identity.id, reply.data)
        if self.outcome is not None:
            self.look()

    def done(self) -> bool:
        """Whether it is known if the command was accepted."""
        return self.ack is not None or self.error is not None

    def set_result(self, reply: Msg) -> None:
        """Take the stream's answer."""
        try:
            self.ack = read_queued(self.message.draft.subject, reply, self.stream)
        except ClientError as error:
            self.set_exception(error)
        else:
            if self.ack.duplicate:
                self.look()

    def set_exception(self, error: Exception) -> None:
        """Take the error that came instead of an answer."""
        self.error = error
        self.look()
