"""The outcome of a command: success, rejection or error, with a code for programs."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from eventstore.errors import EventStoreError
from eventstore.text import presentable
from eventstore.undecodable import UNDECODABLE

__all__ = ["Outcome", "code_of"]

Status = Literal["success", "rejected", "error"]

_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]  # what any database can hold


def code_of(error: Exception) -> str:
    """The code of an error for programs; of those that are not ours, whatever attributes it has."""
    return presentable(error.code) if isinstance(error, EventStoreError) else "handler_failed"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command.

    `status` is "success", "rejected" (by the domain's rules) or "error" (not understood, or not
    to be carried out); `code` is stable and meant for programs ("ok" for success), `message` for
    people. `version` and `position` are the aggregate's after the command: a read model that has
    reached `position` shows it. `event_ids` are the command's events, none where it changed
    nothing.
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
        """Whether the command is never carried out again, whoever sends it again or retries it."""
        return self.status != "error"

    @classmethod
    def error(
        cls,
        error: Exception,
        command_id: str,
        aggregate: str | None = None,
        aggregate_id: str | None = None,
    ) -> Outcome:
        """It could not be carried out."""
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
        """As one JSON object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Outcome:
        """Read what `to_json` made; raises `msgspec.DecodeError` for anything else."""
        return _decode(data)

    @classmethod
    def of(cls, command_id: str, data: bytes) -> Outcome | None:
        """Read the outcome of this command; None for anything else, another's outcome too."""
        try:
            outcome = _decode(data)
        except UNDECODABLE:
            return None
        return outcome if outcome.command_id == command_id else None


_decode = msgspec.json.Decoder(Outcome).decode
