"""Erasure of a data subject's unencrypted copies: parked messages, and texts of outcomes.

A parked message is erased if it names the subject: as its aggregate, by the key of its personal
data, or by its id anywhere in the payload. The text of a failed outcome is replaced if the outcome
is of such a command, or of the subject as an aggregate, or if the text names the subject; the rest
of it remains, because a command has exactly one outcome. What cannot be read is reported, for
manual inspection.

A deletion overwrites a message's bytes in the server's files; a purge or an overwrite leaves them
there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import aclosing, suppress
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.errors import JetStreamError, StreamMissing
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import StoredMessage, erase_message
from eventstore.messages.encryption import refs_in
from eventstore.messages.headers import Header
from eventstore.messages.personal import FORGOTTEN, ref_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.parking.record import ParkedRecord, earlier_parts, is_first_part, read_record
from eventstore.timers import Timer, Timers


class ErasureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, and what could not be.

    `parked` are the sequences of erased messages, `outcomes` the ids of the commands whose
    outcome's text was replaced. For those in `undeleted` the old text remains in the server's
    files, because their bucket is of an earlier release and allows no deletion: until the file is
    compacted, at the latest some time after the outcome would have expired. `unread` describes what
    cannot be read, each with its stream and sequence. `waiting` is how many commands have no
    outcome yet. `timers` are the names of those that wait and name the subject: they are not
    cancelled, because something may depend on their commands.
    """

    parked: tuple[int, ...] = ()
    outcomes: tuple[str, ...] = ()
    undeleted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    waiting: int = 0
    timers: tuple[str, ...] = ()


async def erase_copies(client: Client, subjects: Subjects, subject: str) -> ErasureReport:
    """Erase the unencrypted copies of a data subject's data.

    Reads all parked messages and all outcomes. Can be repeated, also after an interruption, and
    then erases what remains. Raises `ClientError`; a stream that does not exist counts as empty.
    """
    eraser = _SubjectEraser(client, subjects, subject)
    for each in (
        *(eraser.parked_messages, eraser.outcome_texts),
        *(eraser.waiting_commands, eraser.waiting_timers),
    ):
        with suppress(StreamMissing):
            await each()
    return eraser.erased


class _SubjectEraser:
    """Erases one subject's copies."""

    def __init__(self, client: Client, subjects: Subjects, subject: str) -> None:
        self._client = client
        self._subjects = subjects
        self._parked = subjects.parked_stream
        self._subject = subject
        self._ref = ref_of(subject)
        self._pattern = re.compile(rf"(?<!\w){re.escape(subject)}(?!\w)")
        self._bucket = KeyValue(client, subjects.outcome_bucket)
        self._commands: set[str] = set()
        self.erased = ErasureReport()

    async def parked_messages(self) -> None:
        first_parts: set[int] = set()
        reader = DirectReader(self._client, self._parked)
        async with aclosing(reader.messages(self._subjects.all_parked)) as messages:
            async for message in messages:
                if is_first_part(message.headers):
                    first_parts.add(message.sequence)
                else:
                    first_parts -= await self._erase_if_named(reader, message)
        for sequence in sorted(first_parts):
            self._report_unread(self._parked, sequence, "part of a record that has no last part")

    async def _erase_if_named(self, reader: DirectReader, last: StoredMessage) -> set[int]:
        """Erase a record that names the subject; returns the sequences of its earlier parts."""
        earlier: tuple[int, ...] = ()
        try:
            earlier = earlier_parts(last)
            record = read_record(await _parts(reader, earlier), last)
            is_named = self._is_named_by(record)
        except UNDECODABLE as error:
            self._report_unread(self._parked, last.sequence, str(error))
            return set(earlier)
        if is_named:
            if record.command_id is not None:
                self._commands.add(record.command_id)
            # The last part first: without it the record does not exist.
            for sequence in (last.sequence, *earlier):
                await erase_message(self._client, self._parked, sequence)
            self._add(parked=(*self.erased.parked, last.sequence))
        return set(earlier)

    def _is_named_by(self, record: ParkedRecord) -> bool:
        """Raises `MsgspecError` or `RecursionError` if the payload cannot be decoded."""
        ids = (record.aggregate_id, record.headers.get(Header.AGGREGATE_ID))
        if self._subject in ids or self._ref in refs_in(record.headers):
            return True
        return self._subject in _texts(msgspec.json.decode(record.payload))

    async def outcome_texts(self) -> None:
        async with aclosing(self._bucket.entries()) as entries:
            async for message in entries:
                try:
                    outcome = msgspec.json.decode(message.payload, type=dict[str, Any])
                except UNDECODABLE as error:
                    if message.payload:  # otherwise another tool has deleted it
                        self._report_unread(self._bucket.stream, message.sequence, str(error))
                    continue
                if self._names_subject(outcome):
                    await self._replace_text(message, outcome)

    def _names_subject(self, outcome: dict[str, Any]) -> bool:
        text = str(outcome.get("message", ""))
        if outcome.get("status") == "success" or text == FORGOTTEN:
            return False
        return (
            outcome.get("aggregate_id") == self._subject
            or outcome.get("command_id") in self._commands
            or self._pattern.search(text) is not None
        )

    async def _replace_text(self, old: StoredMessage, outcome: dict[str, Any]) -> None:
        command_id = str(outcome.get("command_id"))
        revision = 0
        try:
            await self._bucket.erase(old.sequence)
        except JetStreamError:
            revision = old.sequence
            self._add(undeleted=(*self.erased.undeleted, command_id))
        payload = msgspec.json.encode({**outcome, "message": FORGOTTEN})
        # A conflict means that the command has another outcome by now.
        await self._bucket.update(self._bucket.key(old.subject), payload, revision, old.headers)
        self._add(outcomes=(*self.erased.outcomes, command_id))

    async def waiting_commands(self) -> None:
        with suppress(JetStreamError):
            info = await stream_info(self._client, self._subjects.command_stream)
            self._add(waiting=info.state.messages)

    async def waiting_timers(self) -> None:
        async with aclosing(Timers(self._client, self._subjects).read()) as waiting:
            names = [timer.name async for timer in waiting if self._is_subject_of(timer)]
        self._add(timers=tuple(names))

    def _is_subject_of(self, timer: Timer) -> bool:
        return timer.aggregate_id == self._subject or self._subject in _texts(timer.data)

    def _report_unread(self, stream: str, sequence: int, problem: str) -> None:
        self._add(unread=(*self.erased.unread, f"{stream} {sequence}: {problem}"))

    def _add(self, **changed: Any) -> None:
        self.erased = msgspec.structs.replace(self.erased, **changed)


async def _parts(reader: DirectReader, sequences: tuple[int, ...]) -> list[StoredMessage]:
    parts = [await reader.at(sequence, leader=True) for sequence in sequences]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise ValueError("a part of the record is missing")
    return found


def _texts(value: Any) -> Iterator[str]:
    """All strings in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
