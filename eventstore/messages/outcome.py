"""The outcome of a command: success, rejection or error, with a code for programs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from eventstore.errors import EventStoreError
from eventstore.messages.text import presentable
from eventstore.messages.undecodable import UNDECODABLE

Status = Literal["success", "rejected", "error"]

_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # what any database can hold


def code_of(error: Exception) -> str:
    """The code of an error for programs; `handler_failed` for errors of other libraries."""
    return presentable(error.code) if isinstance(error, EventStoreError) else "handler_failed"


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The outcome of a command.

    `status` is "success", "rejected" (by the domain's rules) or "error" (not understood, or it
    failed); `code` is stable and meant for programs ("ok" for success), `message` for people.
    `version` and `position` are the aggregate's after the command: a read model that has reached
    `position` shows it. `event_ids` are the command's events, none if it changed nothing.
    """

    status: Status
    message: str
    code: str
    command_id: str
    aggregate: str | None = None
    aggregate_id: str | None = None
    version: _Number = 0
    position: _Number = 0
    event_ids: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the command is never executed again, even if it is resent or retried."""
        return self.status != "error"

    @classmethod
    def error(
        cls,
        error: Exception,
        command_id: str,
        aggregate: str | None = None,
        aggregate_id: str | None = None,
    ) -> Outcome:
        """The outcome of a command that could not be carried out."""
        known = isinstance(error, EventStoreError)
        return cls(
            status="error",
            message=presentable(str(error) if known else f"{type(error).__name__}: {error}"),
            code=code_of(error),
            command_id=command_id,
            aggregate=aggregate,
            aggregate_id=aggregate_id,
        )

    def to_json(self) -> bytes:
        """Encode it as one JSON object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Outcome:
        """Decode the result of `to_json`; raises `msgspec.DecodeError` for anything else."""
        return _decode(data)

    @classmethod
    def of(cls, command_id: str, data: bytes) -> Outcome | None:
        """Decode the outcome of this command; None for anything else, as for another's outcome."""
        try:
            outcome = _decode(data)
        except UNDECODABLE:
            return None
        return outcome if outcome.command_id == command_id else None


_decode = msgspec.json.Decoder(Outcome).decode
