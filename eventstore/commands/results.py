"""Results: the outcome of a command that succeeded or was rejected, at an aggregate's head."""

from __future__ import annotations

from eventstore.commands.decoding import DecodedCommand
from eventstore.errors import Rejected
from eventstore.messages.outcome import Outcome
from eventstore.messages.text import presentable
from eventstore.store.head import Head


def succeeded(
    command: DecodedCommand, head: Head, event_ids: tuple[str, ...], message: str
) -> Outcome:
    """The outcome of a command that was carried out; `head` is the aggregate's after it."""
    return Outcome(
        status="success",
        message=message,
        code="ok",
        command_id=command.identity.id,
        aggregate=command.aggregate,
        aggregate_id=command.aggregate_id,
        version=head.version,
        position=head.position,
        event_ids=event_ids,
    )


def rejected(command: DecodedCommand, head: Head, rejection: Rejected) -> Outcome:
    """The outcome of a command that the domain's rules do not allow."""
    return Outcome(
        status="rejected",
        message=presentable(rejection.message),
        code=presentable(rejection.code),
        command_id=command.identity.id,
        aggregate=command.aggregate,
        aggregate_id=command.aggregate_id,
        version=head.version,
        position=head.position,
    )
