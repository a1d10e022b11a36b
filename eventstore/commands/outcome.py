"""Outcomes: what became of a command, kept under the command's id for a settable time."""

from __future__ import annotations

from typing import Literal

import msgspec

from eventstore.client import Client
from eventstore.errors import EventStoreError, JetStreamError
from eventstore.publishing import publish_acked
from eventstore.subjects import Subjects

__all__ = ["Outcome", "Outcomes"]

Status = Literal["success", "rejected", "error"]


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
    version: int = 0
    position: int = 0
    event_ids: tuple[str, ...] = ()

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
            message=str(error) if known else f"{type(error).__name__}: {error}",
            code=error.code if isinstance(error, EventStoreError) else "handler_failed",
            command_id=command_id,
            aggregate=aggregate,
            aggregate_id=aggregate_id,
        )

    def to_json(self) -> bytes:
        """As one JSON object."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes) -> Outcome:
        """Read what `to_json` made."""
        return _decode(data)


_decode = msgspec.json.Decoder(Outcome).decode


class Outcomes:
    """The outcomes of a domain's commands, in their key-value bucket."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._bucket = subjects.outcome_bucket

    async def get(self, command_id: str, *, timeout: float = 5.0) -> Outcome | None:
        """The outcome of a command; None if it has none yet, or no more."""
        reply = await self._client.request(
            f"$JS.API.DIRECT.GET.KV_{self._bucket}.$KV.{self._bucket}.{command_id}",
            timeout=timeout,
        )
        status = (reply.headers or {}).get("Status")
        if status is None:
            return Outcome.from_json(reply.data)
        if status == "404":
            return None
        raise JetStreamError(0, int(status), (reply.headers or {}).get("Description", "refused"))

    async def put(self, outcome: Outcome, *, timeout: float = 5.0) -> None:
        """Keep an outcome, and return when the server has it."""
        subject = f"$KV.{self._bucket}.{outcome.command_id}"
        await publish_acked(self._client, subject, outcome.to_json(), timeout=timeout)
