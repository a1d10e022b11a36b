"""Notes of commands by their sequences: one message for many, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventstore.client.client import Client
from eventstore.commands.sequence_notes import SequenceNotes
from eventstore.concurrency.keyed_batches import KeyedBatches
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.vocabulary import bucket_stream
from eventstore.messages.envelope import new_id
from eventstore.messages.outcome import Outcome
from tests.integration.commanding import Line, counting, opened


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
def notes(line: Line) -> SequenceNotes:
    return SequenceNotes(KeyValue(line.client, line.subjects.outcome_bucket))


async def add_together(notes: SequenceNotes, ids: dict[int, str]) -> None:
    async def add(sequence: int) -> None:
        await notes.add(sequence, ids[sequence])

    async with KeyedBatches(add, max_concurrency=1_000, max_pending=1_000) as queue:
        for sequence in ids:
            await queue.put((str(sequence),), sequence)


async def stored(line: Line) -> int:
    stream = bucket_stream(line.subjects.outcome_bucket)
    info = await line.client.api(f"STREAM.INFO.{stream}")
    count: int = info["state"]["messages"]
    return count


async def test_those_of_a_batch_take_a_message_for_each_block(
    line: Line, notes: SequenceNotes
) -> None:
    ids = {sequence: new_id() for sequence in range(60, 200)}
    await add_together(notes, ids)

    assert await stored(line) <= 8  # in four blocks, and a batch may end within one
    for sequence in range(58, 202):
        assert await notes.find(sequence) == (ids.get(sequence), None)


async def test_a_command_that_is_noted_again_with_others_takes_no_note_away(
    notes: SequenceNotes,
) -> None:
    ids = {sequence: new_id() for sequence in (71, 72, 73, 74, 75)}
    for some in ((71, 72, 73), (71, 74), (71, 74), (71,), (75,)):
        await add_together(notes, {sequence: ids[sequence] for sequence in some})

    for sequence, own in ids.items():
        assert await notes.find(sequence) == (own, None)


async def test_notes_alone_and_together_and_of_refused_commands_are_found(
    line: Line, notes: SequenceNotes
) -> None:
    own, refused = new_id(), new_id()
    refusal = Outcome.error(ValueError("another's"), refused)
    await asyncio.gather(notes.add(7, own), notes.add(8, refused, refusal))

    assert await notes.find(7) == (own, None)
    assert await notes.find(8) == (refused, refusal)
    assert await notes.find(9) == (None, None)
    assert await line.outcomes.command_at(7) == (own, None)
