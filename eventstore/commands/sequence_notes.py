"""Notes of which command was at a sequence of the command stream, for senders who know no id.

They are in the bucket of the outcomes, by the sequence of one command (`at.71`), or by a block of
64 sequences and those of several commands in it that were carried out together, as bits: the
commands at 71 and 73 are in `at.1.280`. So a batch takes one message for each block, and one that
is carried out again, perhaps with others, replaces no note of another command.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import reduce
from operator import or_
from types import MappingProxyType

from eventstore.concurrency.batching import Batchable
from eventstore.errors import NoResponders
from eventstore.jetstream.key_value import KeyValue
from eventstore.messages.outcome import Outcome

_BLOCK = 64
_COMMAND_ID = "X-Command-ID"
_COMMAND_IDS = "X-Command-IDs"
_REFUSAL = "X-Refusal"
_NOTHING: Mapping[str, str] = MappingProxyType({})


class SequenceNotes:
    """Notes the ids of commands by their sequences, in a bucket."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def add(self, sequence: int, command_id: str, refusal: Outcome | None = None) -> None:
        """Store the id of the command at a sequence of the command stream.

        `refusal` is the outcome of a command whose id is another command's.
        """
        if refusal is None:
            await _Note(self._bucket, sequence, command_id)
        else:  # in a header: the outcome under this id is the other command's
            headers = {_COMMAND_ID: command_id, _REFUSAL: refusal.to_json().decode()}
            await self._bucket.put(_key(sequence), None, headers)

    async def find(self, sequence: int) -> tuple[str | None, Outcome | None]:
        """The id of the command at a sequence, if it is known, and its outcome if it was refused.

        Raises `StreamMissing` and `ClientError`.
        """
        try:
            noted = await self._bucket.get(_key(sequence))
        except NoResponders:
            await self._bucket.info()  # raises StreamMissing if that is why
            raise
        if noted is None:
            return await self._find_in_block(sequence), None
        command_id = noted.headers.get(_COMMAND_ID)
        if command_id is None or _REFUSAL not in noted.headers:
            return command_id, None
        return command_id, Outcome.of(command_id, noted.headers[_REFUSAL].encode())

    async def _find_in_block(self, sequence: int) -> str | None:
        async with aclosing(self._bucket.entries(f"{_block(sequence)}.*")) as notes:
            async for note in notes:
                for each in note.headers.get(_COMMAND_IDS, "").split():
                    noted, _, command_id = each.partition("=")
                    if noted == str(sequence):
                        return command_id
        return None


class _Note(Batchable[None]):
    """One note, or those of a batch."""

    __slots__ = ("_bucket", "_command_id", "_sequence")

    def __init__(self, bucket: KeyValue, sequence: int, command_id: str) -> None:
        self._bucket = bucket
        self._sequence = sequence
        self._command_id = command_id
        self.kind = bucket

    async def alone(self) -> None:
        """Store one note."""
        # Marked as deleted, so that tools which list the bucket list only outcomes.
        await self._bucket.put(_key(self._sequence), None, {_COMMAND_ID: self._command_id})

    async def together(self, batch: Sequence[_Note]) -> Sequence[Exception | None]:
        """Store the notes of each block in one message."""
        blocks: dict[str, list[_Note]] = defaultdict(list)
        for each in batch:
            blocks[_block(each._sequence)].append(each)
        stored = await asyncio.gather(*map(_put, blocks, blocks.values()), return_exceptions=True)
        failures = dict(zip(blocks, stored, strict=True))
        return [_failure(failures[_block(each._sequence)]) for each in batch]


async def _put(block: str, notes: Sequence[_Note]) -> None:
    first = notes[0]
    if len(notes) == 1:
        return await first.alone()
    ids = " ".join([f"{each._sequence}={each._command_id}" for each in notes])
    bits = reduce(or_, (1 << each._sequence % _BLOCK for each in notes))
    await first._bucket.put(f"{block}.{bits:x}", None, {_COMMAND_IDS: ids})
    return None


def _failure(stored: BaseException | None) -> Exception | None:
    if stored is None or isinstance(stored, Exception):
        return stored
    raise stored


def _key(sequence: int) -> str:
    return f"at.{sequence}"


def _block(sequence: int) -> str:
    return f"at.{sequence // _BLOCK}"
