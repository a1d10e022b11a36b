"""The query `{domain}.query.command.get_status`: what became of a command."""

from __future__ import annotations

import msgspec

from eventstore.client import Client
from eventstore.commands import Outcome, Outcomes
from eventstore.envelope import check_message_id
from eventstore.errors import InvalidPayload
from eventstore.responder import Answer, Reply, Request
from eventstore.subjects import Subjects
from eventstore.undecodable import UNDECODABLE

__all__ = ["UNKNOWN", "status_answers", "status_json"]

UNKNOWN = "no outcome is known: it waits, was never sent, or its outcome is kept no more"
"""What is said of a command without an outcome."""


class _Question(msgspec.Struct, frozen=True):
    command_id: str


class _Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """No outcome, yet or any more; the fields are a subset of an outcome's."""

    status: str = "unknown"
    code: str = "unknown"
    message: str = UNKNOWN
    command_id: str


_decode = msgspec.json.Decoder(_Question).decode


def status_answers(client: Client, subjects: Subjects) -> dict[str, Answer]:
    """What a `Responder` answers to `{"command_id": ...}`: the outcome as JSON.

    Where none is known, its "status" is "unknown". A request that is not understood is answered
    with an error.
    """
    outcomes = Outcomes(client, subjects)

    async def get_status(request: Request) -> Reply:
        try:
            command_id = _decode(request.payload).command_id
        except UNDECODABLE as error:
            raise InvalidPayload(f'the request is not {{"command_id": ...}}: {error}') from error
        outcome = await outcomes.get(check_message_id(command_id))
        return Reply(status_json(command_id, outcome))

    return {subjects.query("command", "get_status"): get_status}


def status_json(command_id: str, outcome: Outcome | None) -> bytes:
    """The outcome of a command as JSON; where there is none, "status" is "unknown"."""
    return msgspec.json.encode(_Unknown(command_id=command_id) if outcome is None else outcome)
