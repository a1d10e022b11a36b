"""Outcomes: what became of a command, kept under the command's id for a settable time."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client
from eventstore.commands.digest import is_other
from eventstore.errors import CommandIdReused, RequestTimeout
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.envelope import COMMAND_DIGEST
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subjects
from eventstore.text import make_log_records_safe

__all__ = ["Outcomes"]

_MOST_TRIES = 10
_PLACE = "X-Command-Sequence"
_COMMAND_ID = "X-Command-ID"
_REFUSAL = "X-Refusal"
_REPLICAS_SECONDS = 60.0
_NOTHING: Mapping[str, str] = MappingProxyType({})

_logger = make_log_records_safe(logging.getLogger(__name__))


class Outcomes:
    """The outcomes of a domain's commands, in their key-value bucket."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._bucket = KeyValue(client, subjects.outcome_bucket)
        self._has_followers = True  # until it is known
        self._look_again = 0.0

    async def get(
        self, command_id: str, *, sent_at: int = 0, digest: str | None = None, place: int = 0
    ) -> Outcome | None:
        """The outcome of a command; None if it has none yet, or no more.

        `sent_at` is the command's place in its stream, for one that may have been sent before: an
        error that it ended in then does not count. What was just kept may be missed on a bucket of
        several replicas. Raises `CommandIdReused` where the final outcome is known to be that of
        another command than the one with this `digest`. An error of another command does not
        count, nor one of what could not be read at another `place` than this command's.
        """
        kept = await self._kept(command_id)
        if kept is None or kept.outcome is None:
            return None
        is_earlier = kept.place is not None and kept.place < sent_at
        return None if is_earlier and not kept.outcome.is_final else kept.of(digest, place)

    async def final(
        self, command_id: str, *, digest: str | None = None, again: bool = False
    ) -> Outcome | None:
        """The final outcome of a command, which must not be carried out then; None if it has none.

        None is missed: the bucket's leader is asked where a follower could answer, and where the
        command comes `again`, so that it may have one. A change of the bucket's replicas is
        noticed within a minute. Raises `CommandIdReused` where it is known to be another command
        than the one with this `digest`.
        """
        if again or await self._may_lag():
            kept = await self._standing(command_id)
        else:
            kept = await self._kept(command_id)
        return kept.of(digest) if kept is not None and kept.is_final else None

    async def put(
        self, outcome: Outcome, *, place: int = 0, about: Mapping[str, str] = _NOTHING
    ) -> Outcome:
        """Keep an outcome, and return when the server has it.

        `place` is where in the command stream the command was that ended in it (0: not known);
        `about` are headers that tell more of the command (`eventstore.commands.outcome_log`).
        The first final one stands: where the command has that already, that is returned. An error
        gives way to whatever comes after it. That events were appended which the one that stands
        does not know of is logged as an error.

        One that stands for another command of the same id is not returned: an outcome of this one
        is returned where there is something to tell, an error or events, though it is not kept;
        else it raises `CommandIdReused`.
        """
        data = outcome.to_json()
        headers = {**about, _PLACE: str(place)}
        revision = 0
        for _ in range(_MOST_TRIES):
            if await self._bucket.update(outcome.command_id, data, revision, headers):
                return outcome
            standing = await self._standing(outcome.command_id)
            revision = 0 if standing is None else standing.sequence
            if standing is not None and standing.is_final:
                return standing.instead_of(outcome, about.get(COMMAND_DIGEST), place)
        raise RequestTimeout(f"outcome of command {outcome.command_id}: others write it as well")

    async def note_place(
        self, sequence: int, command_id: str, refusal: Outcome | None = None
    ) -> None:
        """Note which command was at a place of the command stream, for who knows only that.

        `refusal` is what became of one whose id is another command's.
        """
        # Marked as deleted, so that tools which list the bucket list outcomes alone.
        headers = {_COMMAND_ID: command_id}
        if refusal is not None:  # in a header, for under this id it is not what became of it
            headers[_REFUSAL] = refusal.to_json().decode()
        await self._bucket.put(_place_key(sequence), None, headers)

    async def command_at(self, sequence: int) -> tuple[str | None, Outcome | None]:
        """The id of the command that was at a place, where it is known, and why it was refused.

        It was refused where its id is another command's: what is kept under the id is not its own.
        """
        noted = await self._bucket.get(_place_key(sequence))
        headers = _NOTHING if noted is None else noted.headers
        command_id = headers.get(_COMMAND_ID)
        if command_id is None or _REFUSAL not in headers:
            return command_id, None
        return command_id, Outcome.of(command_id, headers[_REFUSAL].encode())

    async def _may_lag(self) -> bool:
        """Whether a direct get may be answered by another than the bucket's leader."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + _REPLICAS_SECONDS
            self._has_followers = (await self._bucket.info()).replicas > 1
        return self._has_followers

    async def _kept(self, command_id: str) -> _Kept | None:
        return _Kept.read(command_id, await self._bucket.get(command_id))

    async def _standing(self, command_id: str) -> _Kept | None:
        """What the bucket's leader has of a command."""
        return _Kept.read(command_id, await self._bucket.leader_get(command_id))


def _place_key(sequence: int) -> str:
    return f"at.{sequence}"


class _Kept(msgspec.Struct, frozen=True):
    """A message of the bucket; without an outcome where a person's tool has deleted that."""

    outcome: Outcome | None
    sequence: int
    headers: Mapping[str, str]

    @classmethod
    def read(cls, command_id: str, message: StoredMessage | None) -> _Kept | None:
        if message is None:
            return None
        outcome = Outcome.of(command_id, message.payload)
        return cls(outcome, message.sequence, message.headers)

    @property
    def place(self) -> int | None:
        return decimal(self.headers.get(_PLACE))

    @property
    def is_final(self) -> bool:
        return self.outcome is not None and self.outcome.is_final

    @property
    def _digest(self) -> str | None:
        return self.headers.get(COMMAND_DIGEST)

    def of(self, digest: str | None, place: int = 0) -> Outcome | None:
        """The outcome of the command with this digest, which was sent to this place."""
        if self.outcome is None:
            return None
        if self.is_final and is_other(digest, self._digest):
            raise CommandIdReused(self.outcome.command_id)
        return self.outcome if self.is_final or self._is_error_of(digest, place) else None

    def _is_error_of(self, digest: str | None, place: int) -> bool:
        """Whether it may be that command's; one that could not be read has no digest."""
        if digest is None or self._digest is not None:
            return not is_other(digest, self._digest)
        return not place or not self.place or self.place == place

    def instead_of(self, outcome: Outcome, digest: str | None, place: int) -> Outcome:
        """What to tell of a command that has ended in `outcome`, though this one stands.

        One that cannot be understood has no digest: it is the same if it is at the same place.
        """
        if digest is None:
            is_same = self._digest is None or self.headers.get(_PLACE) == str(place)
        else:
            is_same = not is_other(digest, self._digest)
        if is_same:
            standing = self.outcome or outcome
            _report_contradiction(outcome, standing)
            return standing
        if outcome.is_final and not outcome.event_ids:
            raise CommandIdReused(outcome.command_id)
        return outcome


def _report_contradiction(outcome: Outcome, standing: Outcome) -> None:
    if outcome.event_ids and outcome.event_ids != standing.event_ids:
        _logger.error(
            "command %s has two truths: its events %s of %s %s are in the log, but its outcome, "
            "kept before, is %s (%s) with the events %s; a person must look at the aggregate",
            *(outcome.command_id, ", ".join(outcome.event_ids)),
            *(outcome.aggregate, outcome.aggregate_id),
            *(standing.status, standing.code, ", ".join(standing.event_ids) or "none"),
        )
