from __future__ import annotations

import pytest
from sqlalchemy import Connection, select

from eventstore.errors import ProjectionError, ProjectionFenced
from eventstore.projections.database import checkpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.tables import checkpoints as table
from eventstore.projections.projection import Projection
from tests.unit.projections.counters import counting, moved
from tests.unit.projections.memory import time_of

NOW = time_of(0)
counts = counting("checkpoint_counts")


def stored(connection: Connection) -> tuple[object, ...]:
    columns = (table.c.name, table.c.version, table.c.position, table.c.updated_at)
    return tuple(connection.execute(select(*columns)).one())


async def claimed(database: Database, projection: Projection) -> int:
    known = await database.transact(lambda c: checkpoint.claim(c, projection, NOW))
    return known.position


async def test_a_new_projection_begins_at_zero(database: Database) -> None:
    assert await database.transact(lambda c: checkpoint.read(c, counts.name)) is None
    assert await claimed(database, counts) == 0
    assert await database.transact(stored) == ("checkpoint_counts", 1, 0, NOW)


async def test_it_continues_from_its_position(database: Database) -> None:
    await database.transact(lambda c: checkpoint.claim(c, counts, NOW))

    await database.transact(lambda c: moved(c, counts, 0, 2**40, time_of(1)))

    assert await claimed(database, counts) == 2**40
    assert await database.transact(stored) == ("checkpoint_counts", 1, 2**40, time_of(1))


@pytest.mark.parametrize("previous", [0, 4, 6])
async def test_another_worker_is_noticed(database: Database, previous: int) -> None:
    await database.transact(lambda c: checkpoint.claim(c, counts, NOW))
    await database.transact(lambda c: moved(c, counts, 0, 5, NOW))

    with pytest.raises(ProjectionFenced, match="checkpoint of projection checkpoint_counts"):
        await database.transact(lambda c: moved(c, counts, previous, 9, NOW))

    assert await claimed(database, counts) == 5


@pytest.mark.parametrize("position", [4, 5])
async def test_it_only_moves_forward(database: Database, position: int) -> None:
    with pytest.raises(ValueError, match="not from 5 to"):
        await database.transact(lambda c: moved(c, counts, 5, position, NOW))


async def test_of_two_first_users_one_is_fenced(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await database.transact(lambda c: checkpoint.claim(c, counts, NOW))
    # On a database with several writers, the other's row may come between looking and inserting.
    monkeypatch.setattr(checkpoint, "lock", lambda *_: None)

    with pytest.raises(ProjectionFenced):
        await database.transact(lambda c: checkpoint.claim(c, counts, NOW))


async def test_rows_of_another_version_are_not_touched(database: Database) -> None:
    await database.transact(lambda c: checkpoint.claim(c, counts, NOW))
    changed = counting("checkpoint_counts", version=2)

    with pytest.raises(ProjectionError, match="is version 2, but its rows were made by version 1"):
        await database.transact(lambda c: checkpoint.claim(c, changed, NOW))
    with pytest.raises(ProjectionFenced):
        await database.transact(lambda c: moved(c, changed, 0, 1, NOW))


async def test_restarting_it_begins_another_epoch(database: Database) -> None:
    assert await database.transact(lambda c: checkpoint.read(c, counts.name)) is None
    await database.transact(lambda c: checkpoint.claim(c, counts, NOW))
    changed = counting("checkpoint_counts", version=2)

    await database.transact(lambda c: checkpoint.restart(c, changed, 7, time_of(1)))

    assert await database.transact(lambda c: checkpoint.read(c, counts.name)) == (
        checkpoint.Checkpoint(counts.name, 2, 7, time_of(1), 2, 0.0, None, None)
    )
    assert await claimed(database, changed) == 7


async def test_setting_one_that_was_never_used_begins_it(database: Database) -> None:
    await database.transact(lambda c: checkpoint.restart(c, counts, 3, NOW))

    assert await claimed(database, counts) == 3


async def test_a_lost_answer_counts_as_a_commit_only_if_all_checkpoints_moved(
    database: Database,
) -> None:
    others = counting("checkpoint_others")
    held = [checkpoint.ExpectedCheckpoint(counts, 0), checkpoint.ExpectedCheckpoint(others, 0)]

    async def are_at(position: int, which: list[checkpoint.ExpectedCheckpoint] = held) -> bool:
        return await database.transact(lambda c: checkpoint.are_at(c, which, position))

    assert not await are_at(0)
    await database.transact(lambda c: [checkpoint.claim(c, each, NOW) for each in (counts, others)])
    assert await are_at(0)
    await database.transact(lambda c: moved(c, counts, 0, 5, NOW))
    assert not await are_at(5)
    assert not await are_at(0)
    await database.transact(lambda c: moved(c, others, 0, 5, NOW))
    assert await are_at(5)
    assert not await are_at(
        5,
        [checkpoint.ExpectedCheckpoint(counts, 0, 1), checkpoint.ExpectedCheckpoint(others, 0, 2)],
    )
    assert await are_at(
        5,
        [checkpoint.ExpectedCheckpoint(counts, 0, 1), checkpoint.ExpectedCheckpoint(others, 0, 1)],
    )
    await database.transact(lambda c: checkpoint.restart(c, counts, 5, NOW))
    assert not await are_at(
        5,
        [checkpoint.ExpectedCheckpoint(counts, 0, 1), checkpoint.ExpectedCheckpoint(others, 0, 1)],
    )
