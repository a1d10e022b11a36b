"""Erasing: what the streams hold of a data subject in clear, beside its events.

A parked message is erased that names the subject: as its aggregate, by the key of its personal
data, or by its id anywhere in the payload. An outcome that is no success has its text replaced,
where it is of such a command, of the subject as an aggregate, or names the subject in the text;
the rest of it stays, for a command has one outcome for ever. What cannot be read is listed, for a
person to look at.

Deleting a message overwrites its bytes in the server's files; to purge it, or to write another
over it, leaves them there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.errors import JetStreamError, StreamMissing
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.erase import erase_message
from eventstore.jetstream.key_value import KeyValue
from eventstore.messages.encryption import refs_in
from eventstore.messages.envelope import Header
from eventstore.messages.personal import FORGOTTEN, ref_of
from eventstore.messages.subjects import Subjects
from eventstore.parking.record import (
    ParkedRecord,
    earlier_parts,
    is_first_part,
    read_record,
)
from eventstore.undecodable import UNDECODABLE

__all__ = ["ErasureReport", "erase_copies"]

_SUCCESS = "success"


class ErasureReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased, and what could not be.

    `parked` are the sequences of parked messages, `outcomes` the ids of the commands whose
    outcome lost its text. Of those in `undeleted` the server still has the old text in its files,
    because their bucket is of an earlier release and allows no deletion: until it reuses the
    room, at the latest some time after the outcome would have expired. `unread` says what cannot
    be read, each with its stream and sequence. `waiting` is how many commands have no outcome yet.
    """

    parked: tuple[int, ...] = ()
    outcomes: tuple[str, ...] = ()
    undeleted: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    waiting: int = 0


async def erase_copies(
    client: Client, subjects: Subjects, subject: str, *, timeout: float = 5.0
) -> ErasureReport:
    """Erase what is parked and told of a data subject; `timeout` is seconds for each answer.

    Reads everything that is parked and all outcomes. To do it again, also after it was cut off,
    finds what is left. Raises `ClientError`; a stream that does not exist holds nothing.
    """
    erasing = _Erasing(client, subjects, subject, timeout)
    for each in (erasing.parked_messages, erasing.texts_of_outcomes, erasing.waiting_commands):
        try:
            await each()
        except StreamMissing:
            continue
    return erasing.erased


class _Erasing:
    """One subject's."""

    def __init__(self, client: Client, subjects: Subjects, subject: str, timeout: float) -> None:
        self._client = client
        self._subjects = subjects
        self._subject = subject
        self._ref = ref_of(subject)
        self._word = re.compile(rf"(?<!\w){re.escape(subject)}(?!\w)")
        self._timeout = timeout
        self._bucket = KeyValue(client, subjects.outcome_bucket, timeout=timeout)
        self._commands: set[str] = set()
        self.erased = ErasureReport()

    async def parked_messages(self) -> None:
        stream = self._subjects.parked_stream
        first_parts: set[int] = set()
        async with (
            DirectReader(self._client, stream, timeout=self._timeout) as reader,
            aclosing(reader.messages(self._subjects.all_parked)) as messages,
        ):
            async for message in messages:
                if is_first_part(message.headers):
                    first_parts.add(message.sequence)
                else:
                    first_parts -= await self._look_at(reader, message)
        for sequence in sorted(first_parts):
            self._cannot_read(stream, sequence, "part of a record that has no last part")

    async def _look_at(self, reader: DirectReader, last: StoredMessage) -> set[int]:
        """Erase a record that names the subject; the sequences of its parts before the last."""
        earlier: tuple[int, ...] = ()
        try:
            earlier = earlier_parts(last)
            record = read_record(await _parts(reader, earlier), last)
            is_named = self._is_named_by(record)
        except UNDECODABLE as error:
            self._cannot_read(self._subjects.parked_stream, last.sequence, str(error))
            return set(earlier)
        if is_named:
            if record.command_id is not None:
                self._commands.add(record.command_id)
            for sequence in (last.sequence, *earlier):  # without the last the others do not count
                await self._erase(self._subjects.parked_stream, sequence)
            self._note(parked=(*self.erased.parked, last.sequence))
        return set(earlier)

    def _is_named_by(self, record: ParkedRecord) -> bool:
        """Raises `MsgspecError` or `RecursionError` where the payload cannot be read."""
        ids = (record.aggregate_id, record.headers.get(Header.AGGREGATE_ID))
        if self._subject in ids or self._ref in refs_in(record.headers):
            return True
        return self._subject in _texts(msgspec.json.decode(record.payload))

    async def texts_of_outcomes(self) -> None:
        async with aclosing(self._bucket.entries()) as entries:
            async for message in entries:
                try:
                    outcome = msgspec.json.decode(message.payload, type=dict[str, Any])
                except UNDECODABLE as error:
                    if message.payload:  # not one that another tool has deleted
                        self._cannot_read(self._bucket.stream, message.sequence, str(error))
                    continue
                if self._is_told_by(outcome):
                    await self._replace(message, outcome)

    def _is_told_by(self, outcome: dict[str, Any]) -> bool:
        text = str(outcome.get("message", ""))
        if outcome.get("status") == _SUCCESS or text == FORGOTTEN:
            return False
        return (
            outcome.get("aggregate_id") == self._subject
            or outcome.get("command_id") in self._commands
            or self._word.search(text) is not None
        )

    async def _replace(self, old: StoredMessage, outcome: dict[str, Any]) -> None:
        command_id = str(outcome.get("command_id"))
        revision = 0
        try:
            await self._bucket.erase(old.sequence)
        except JetStreamError:
            revision = old.sequence
            self._note(undeleted=(*self.erased.undeleted, command_id))
        payload = msgspec.json.encode({**outcome, "message": FORGOTTEN})
        # Where this is refused, the command has another outcome by now.
        await self._bucket.update(self._bucket.key(old.subject), payload, revision, old.headers)
        self._note(outcomes=(*self.erased.outcomes, command_id))

    async def waiting_commands(self) -> None:
        stream = self._subjects.command_stream
        try:
            info = await stream_info(self._client, stream, timeout=self._timeout)
        except JetStreamError:
            return
        self._note(waiting=info.state.messages)

    async def _erase(self, stream: str, sequence: int) -> None:
        await erase_message(self._client, stream, sequence, self._timeout)

    def _cannot_read(self, stream: str, sequence: int, problem: str) -> None:
        self._note(unread=(*self.erased.unread, f"{stream} {sequence}: {problem}"))

    def _note(self, **changed: Any) -> None:
        self.erased = msgspec.structs.replace(self.erased, **changed)


async def _parts(reader: DirectReader, sequences: tuple[int, ...]) -> list[StoredMessage]:
    parts = [await reader.at(sequence, leader=True) for sequence in sequences]
    if any(part is None for part in parts):
        raise ValueError("a part of the record is missing")
    return [part for part in parts if part is not None]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value of JSON, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
