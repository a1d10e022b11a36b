"""The query `{domain}.query.command.get_status` for the outcome of a command."""

from __future__ import annotations

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.commands.decoding import id_of_message
from eventstore.commands.outcomes import Outcomes
from eventstore.errors import InvalidPayload
from eventstore.messages.envelope import check_message_id
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE

UNKNOWN = "no outcome is known: it waits, was never sent, or its outcome has expired"
"""The message for a command without an outcome."""


class _Question(msgspec.Struct, frozen=True, kw_only=True):
    """The command in question: by its id, its `Nats-Msg-Id`, or the stream's acknowledgement."""

    command_id: str | None = None
    message_id: str | None = None
    stream: str | None = None
    seq: int | None = None
    sequence: int | None = None


class _Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """The answer without an outcome; its fields are a subset of an outcome's."""

    status: str = "unknown"
    code: str = "unknown"
    message: str = UNKNOWN
    command_id: str | None


_decode = msgspec.json.Decoder(_Question).decode


def status_answers(client: Client, subjects: Subjects) -> dict[str, Answer]:
    """The endpoint for a `Responder`: `{"command_id": ...}` is answered with the outcome as JSON.

    A command that was sent without an `X-Event-ID` can be named by its `{"message_id": ...}`, or by
    the stream's acknowledgement: `{"stream": ..., "seq": ...}`. If no outcome is known, its
    "status" is "unknown". The outcome of a command that was refused because its id is another
    command's is found by the acknowledgement alone. An illegal request is answered with an error.
    """
    outcomes = Outcomes(client, subjects)

    async def get_status(request: Request) -> Reply:
        command_id, outcome = await _named(_read(request.payload), outcomes, subjects)
        if command_id is not None and outcome is None:
            outcome = await outcomes.get(command_id)
        return Reply(status_json(command_id, outcome))

    return {subjects.query("command", "get_status"): get_status}


def _read(payload: bytes) -> _Question:
    try:
        return _decode(payload)
    except UNDECODABLE as error:
        raise InvalidPayload(f'the request is not {{"command_id": ...}}: {error}') from error


async def _named(
    question: _Question, outcomes: Outcomes, subjects: Subjects
) -> tuple[str | None, Outcome | None]:
    """The id of the command in question, None if it is unknown, and its outcome if refused.

    The latter is found by the sequence alone.
    """
    sequence = question.seq if question.sequence is None else question.sequence
    given = (question.command_id, question.message_id, sequence)
    if sum(each is not None for each in given) != 1:
        raise InvalidPayload("name the command by one of command_id, message_id and seq")
    if question.stream not in (None, subjects.command_stream):
        raise InvalidPayload(f"commands are in {subjects.command_stream}, not in that stream")
    if question.command_id is not None:
        return check_message_id(question.command_id), None
    if question.message_id is not None:
        return id_of_message(subjects.command_stream, question.message_id), None
    return await outcomes.command_at(sequence or 0)


def status_json(command_id: str | None, outcome: Outcome | None) -> bytes:
    """The outcome of a command as JSON; if there is none, "status" is "unknown"."""
    return msgspec.json.encode(_Unknown(command_id=command_id) if outcome is None else outcome)
