"""Outcomes: what became of a command, kept under the command's id for a settable time."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import msgspec

from eventstore.api_answers import UNREADABLE, StreamInfo, decimal
from eventstore.client import Client
from eventstore.errors import EventStoreError, JetStreamError, RequestTimeout
from eventstore.publishing import publish_acked
from eventstore.stored_message import leader_get, read_direct
from eventstore.subjects import Subjects

__all__ = ["Outcome", "Outcomes", "code_of", "presentable"]

Status = Literal["success", "rejected", "error"]

_MOST_TEXT = 4_000
_MOST_TRIES = 10
_PLACE = "X-Command-Sequence"
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE = (10071, 10164)
_REPLICAS_SECONDS = 60.0
_NOTHING: Mapping[str, str] = MappingProxyType({})

_logger = logging.getLogger("eventstore")


def presentable(text: object) -> str:
    """A text that can be sent: of bounded length, and nothing in it that UTF-8 has no bytes for."""
    shown = str(text)[:_MOST_TEXT]
    return shown.encode(errors="replace").decode()


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
    version: int = 0
    position: int = 0
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
        except UNREADABLE:
            return None
        return outcome if outcome.command_id == command_id else None


_decode = msgspec.json.Decoder(Outcome).decode


class Outcomes:
    """The outcomes of a domain's commands, in their key-value bucket."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._stream = f"KV_{subjects.outcome_bucket}"
        self._prefix = f"$KV.{subjects.outcome_bucket}."
        self._has_followers = True  # until it is known
        self._look_again = 0.0

    async def get(
        self, command_id: str, *, sent_at: int = 0, timeout: float = 5.0
    ) -> Outcome | None:
        """The outcome of a command; None if it has none yet, or no more.

        `sent_at` is the command's place in its stream, for one that may have been sent before: an
        error that it ended in then does not count. What was just kept may be missed on a bucket of
        several replicas.
        """
        reply = await self._client.request(
            self._client.api_subject(f"DIRECT.GET.{self._stream}.{self._prefix}{command_id}"),
            timeout=timeout,
        )
        message = read_direct(reply, self._stream, f"{self._prefix}{command_id}")
        if message is None:
            return None
        outcome = Outcome.of(command_id, message.payload)
        place = decimal(message.headers.get(_PLACE))
        is_earlier = place is not None and place < sent_at
        return None if is_earlier and outcome is not None and not outcome.is_final else outcome

    async def final(
        self, command_id: str, *, again: bool = False, timeout: float = 5.0
    ) -> Outcome | None:
        """The final outcome of a command, which must not be carried out then; None if it has none.

        None is missed: the bucket's leader is asked where a follower could answer, and where the
        command comes `again`, so that it may have one. A change of the bucket's replicas is
        noticed within a minute.
        """
        if again or await self._may_lag(timeout):
            outcome, _ = await self._standing(command_id, timeout)
        else:
            outcome = await self.get(command_id, timeout=timeout)
        return outcome if outcome is not None and outcome.is_final else None

    async def put(
        self,
        outcome: Outcome,
        *,
        place: int = 0,
        about: Mapping[str, str] = _NOTHING,
        timeout: float = 5.0,
    ) -> Outcome:
        """Keep an outcome, and return when the server has it.

        `place` is where in the command stream the command was that ended in it (0: not known);
        `about` are headers that tell more of the command (`eventstore.commands.kept_outcome`).
        The first final one stands: where the command has that already, that is returned. An error
        gives way to whatever comes after it. That events were appended which the one that stands
        does not know of is logged as an error.
        """
        subject = f"{self._prefix}{outcome.command_id}"
        data = outcome.to_json()
        headers = {**about, _PLACE: str(place), _EXPECTED: "0"}
        for _ in range(_MOST_TRIES):
            if await self._put_if_expected(subject, data, headers, timeout):
                return outcome
            standing, sequence = await self._standing(outcome.command_id, timeout)
            headers[_EXPECTED] = str(sequence)
            if standing is not None and standing.is_final:
                _report_contradiction(outcome, standing)
                return standing
        raise RequestTimeout(f"outcome of command {outcome.command_id}: others write it as well")

    async def _may_lag(self, timeout: float) -> bool:
        """Whether a direct get may be answered by another than the bucket's leader."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + _REPLICAS_SECONDS
            info = await self._client.api(
                f"STREAM.INFO.{self._stream}", timeout=timeout, answer=StreamInfo
            )
            self._has_followers = info.replicas > 1
        return self._has_followers

    async def _put_if_expected(
        self, subject: str, data: bytes, headers: dict[str, str], timeout: float
    ) -> bool:
        """Whether it was kept, because the last one there is the one the headers name."""
        try:
            await publish_acked(self._client, subject, data, headers, timeout, self._stream)
        except JetStreamError as error:
            if error.err_code not in _WRONG_SEQUENCE:
                raise
            return False
        return True

    async def _standing(self, command_id: str, timeout: float) -> tuple[Outcome | None, int]:
        """The outcome as the bucket's leader knows it, and its sequence.

        One that was deleted by a person's tool, which leaves an empty message, is None.
        """
        request = {"last_by_subj": f"{self._prefix}{command_id}"}
        message = await leader_get(self._client, self._stream, request, timeout=timeout)
        if message is None:
            return None, 0
        return Outcome.of(command_id, message.payload), message.sequence


def _report_contradiction(outcome: Outcome, standing: Outcome) -> None:
    if outcome.event_ids and outcome.event_ids != standing.event_ids:
        _logger.error(
            "command %s has two truths: its events %s of %s %s are in the log, but its outcome, "
            "kept before, is %s (%s) with the events %s; a person must look at the aggregate",
            *(outcome.command_id, ", ".join(outcome.event_ids)),
            *(outcome.aggregate, outcome.aggregate_id),
            *(standing.status, standing.code, ", ".join(standing.event_ids) or "none"),
        )
