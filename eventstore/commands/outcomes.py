"""Outcomes of commands, stored in a key-value bucket by command id for a configurable time."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Mapping

import msgspec

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client
from eventstore.commands.digest import is_other
from eventstore.commands.outcome_log import COMMAND_SEQUENCE
from eventstore.commands.sequence_notes import SequenceNotes
from eventstore.errors import CommandIdReused, RequestTimeout
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import COMMAND_DIGEST
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe

_MAX_TRIES = 10
_REPLICAS_SECONDS = 60.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class Outcomes:
    """The outcomes of a domain's commands, in their key-value bucket."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._bucket = KeyValue(client, subjects.outcome_bucket)
        self._notes = SequenceNotes(self._bucket)
        self._has_followers = True  # until it is known
        self._next_check = 0.0

    async def get(
        self, command_id: str, *, since: int = 0, digest: str | None = None, sequence: int = 0
    ) -> Outcome | None:
        """The outcome of a command; None if it has none yet, or if it has expired.

        `since` is the command's sequence in its stream, for a command that may have been sent
        before: an error of an earlier delivery does not count. `sequence` is the same if it is
        known. An outcome stored a moment ago may be missed on a bucket with replicas. Raises
        `CommandIdReused` if the final outcome is known to be that of another command than the one
        with this `digest`. Errors of another command do not count, nor errors of a message that
        could not be decoded at another sequence.
        """
        stored = await self._stored(command_id)
        if stored is None or stored.outcome is None:
            return None
        is_earlier = stored.command_sequence is not None and stored.command_sequence < since
        return None if is_earlier and not stored.outcome.is_final else stored.of(digest, sequence)

    async def final(
        self, command_id: str, *, digest: str | None = None, redelivered: bool = False
    ) -> Outcome | None:
        """The final outcome of a command, which must then not be carried out; None if it has none.

        None is missed: the bucket's leader is asked if a follower could answer, and if the command
        was `redelivered`, so that it may have one. A change of the bucket's replicas is noticed
        within a minute. Raises `CommandIdReused` if it is known to be that of another command than
        the one with this `digest`.
        """
        if time.monotonic() >= self._next_check:
            await self._check_replicas()
        found = await self._last(command_id, leader=redelivered or self._has_followers)
        if found is None:
            return None
        stored = _StoredOutcome.read(command_id, found)
        return stored.of(digest) if stored.is_final else None

    async def put(
        self,
        outcome: Outcome,
        *,
        sequence: int = 0,
        about: str = "",
        digest: str | None = None,
    ) -> Outcome:
        """Store an outcome; returns the command's outcome once the server has it.

        `sequence` is the command's in its stream (0: not known); `about` are the lines of headers
        that describe the command (`eventstore.commands.outcome_log`), `digest` is its digest, if it
        has one. The first final outcome wins: if the
        command already has one, that is returned. An error is replaced by any later outcome. Events
        that were appended and that the earlier outcome does not name are logged as an error.

        If another command of the same id has a final outcome, this one is not stored: it is
        returned if it is an error or has events; else `CommandIdReused` is raised.
        """
        data = outcome.to_json()
        lines = f"{about}{COMMAND_SEQUENCE}: {sequence}\r\n"
        revision = 0
        for _ in range(_MAX_TRIES):
            if await self._bucket.update(outcome.command_id, data, revision, lines):
                return outcome
            stored = await self._stored(outcome.command_id, leader=True)
            revision = 0 if stored is None else stored.revision
            if stored is not None and stored.is_final:
                return stored.instead_of(outcome, digest, sequence)
        raise RequestTimeout(
            f"outcome of command {outcome.command_id}: others write it as well; try again"
        )

    async def note_sequence(
        self, sequence: int, command_id: str, refusal: Outcome | None = None
    ) -> None:
        """Store the id of the command at a sequence of the command stream.

        `refusal` is the outcome of a command whose id is another command's.
        """
        await self._notes.add(sequence, command_id, refusal)

    async def command_at(self, sequence: int) -> tuple[str | None, Outcome | None]:
        """The id of the command at a sequence, if it is known, and its outcome if it was refused.

        It was refused if its id is another command's, whose outcome is stored under the id. Raises
        `StreamMissing` and `ClientError`.
        """
        return await self._notes.find(sequence)

    async def _check_replicas(self) -> None:
        """Note whether a follower of the bucket may answer a direct get."""
        self._next_check = time.monotonic() + _REPLICAS_SECONDS
        self._has_followers = (await self._bucket.info()).replicas > 1

    async def _stored(self, command_id: str, *, leader: bool = False) -> _StoredOutcome | None:
        found = await self._last(command_id, leader=leader)
        return None if found is None else _StoredOutcome.read(command_id, found)

    def _last(self, command_id: str, *, leader: bool) -> Awaitable[StoredMessage | None]:
        """The last message of a command's key."""
        return (self._bucket.leader_get if leader else self._bucket.get)(command_id)


class _StoredOutcome(msgspec.Struct, frozen=True):
    """A message of the bucket; it has no outcome if that was deleted with another tool."""

    outcome: Outcome | None
    revision: int
    headers: Mapping[str, str]

    @classmethod
    def read(cls, command_id: str, message: StoredMessage) -> _StoredOutcome:
        """The message as what it should be."""
        return cls(Outcome.of(command_id, message.payload), message.sequence, message.headers)

    @property
    def command_sequence(self) -> int | None:
        return decimal(self.headers.get(COMMAND_SEQUENCE))

    @property
    def is_final(self) -> bool:
        return self.outcome is not None and self.outcome.is_final

    @property
    def _digest(self) -> str | None:
        return self.headers.get(COMMAND_DIGEST)

    def of(self, digest: str | None, sequence: int = 0) -> Outcome | None:
        if self.outcome is None:
            return None
        if self.is_final and is_other(digest, self._digest):
            raise CommandIdReused(self.outcome.command_id)
        return self.outcome if self.is_final or self._is_error_of(digest, sequence) else None

    def _is_error_of(self, digest: str | None, sequence: int) -> bool:
        """Whether it may be that command's; one that could not be decoded has no digest."""
        if digest is None or self._digest is not None:
            return not is_other(digest, self._digest)
        own = self.command_sequence
        return not sequence or not own or own == sequence

    def instead_of(self, outcome: Outcome, digest: str | None, sequence: int) -> Outcome:
        """The outcome to return for a command that has ended in `outcome`, though this was first.

        A command that cannot be decoded has no digest: it is the same if its sequence is.
        """
        if digest is None:
            is_same = self._digest is None or self.headers.get(COMMAND_SEQUENCE) == str(sequence)
        else:
            is_same = not is_other(digest, self._digest)
        if is_same:
            first = self.outcome or outcome
            _report_contradiction(outcome, first)
            return first
        if outcome.is_final and not outcome.event_ids:
            raise CommandIdReused(outcome.command_id)
        return outcome


def _report_contradiction(outcome: Outcome, first: Outcome) -> None:
    if outcome.event_ids and outcome.event_ids != first.event_ids:
        _logger.error(
            "command %s has contradictory outcomes: its events %s of %s %s are in the log, but its "
            "outcome, stored before, is %s (%s) with the events %s; inspect the aggregate",
            *(outcome.command_id, ", ".join(outcome.event_ids)),
            *(outcome.aggregate, outcome.aggregate_id),
            *(first.status, first.code, ", ".join(first.event_ids) or "none"),
        )
