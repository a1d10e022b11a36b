"""A process that dies in the middle of a transaction: what the next one finds, and makes of it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from projections import checkpoint
from projections.database import Database
from projections.worker import ProjectionWorker
from tests.unit.projections.counters import Counted, codec, counting, make_tables, rows_of
from tests.unit.projections.memory import MemoryLog

DIED = 77


def work(path: Path, dies: Callable[[Counted], object]) -> int:
    """Follow ten events in pages of four, with two projections; where the first has come to."""

    async def run() -> int:
        log = MemoryLog(codec)
        log.add("c", *(Counted(by=n) for n in range(1, 11)))
        projections = [counting("first"), counting("second", fails=dies)]
        async with Database(path) as database:
            worker = ProjectionWorker(
                log,  # type: ignore[arg-type]
                database,
                projections,
                batch=4,
                on_progress=lambda _position, pending: None if pending else worker.stop(),
            )
            await worker.run()
            return worker.position

    return asyncio.run(run())


def work_and_die(path: Path, at: int) -> None:
    work(path, lambda event: os._exit(DIED) if event.by == at else None)


async def state(path: Path) -> tuple[list[int], list[int], int | None]:
    first, second = counting("first"), counting("second")
    async with Database(path) as database:
        position = await database.transact(lambda c: checkpoint.position_of(c, second))
        rows = [[row[1] for row in await rows_of(database, each)] for each in (first, second)]
        return rows[0], rows[1], position


@pytest.mark.parametrize(("at", "kept"), [(1, 0), (4, 0), (5, 4), (7, 4), (10, 8)])
def test_a_crash_repeats_nothing_and_skips_nothing(
    migrated: Path, tmp_path: Path, at: int, kept: int
) -> None:
    path = tmp_path / "read_model.sqlite"
    path.write_bytes(migrated.read_bytes())
    asyncio.run(prepare(path))

    process = multiprocessing.get_context("spawn").Process(target=work_and_die, args=(path, at))
    process.start()
    process.join(30)
    assert process.exitcode == DIED

    whole = list(range(1, kept + 1))
    assert asyncio.run(state(path)) == (whole, whole, kept)

    assert work(path, lambda _event: None) == 10
    everything = list(range(1, 11))
    assert asyncio.run(state(path)) == (everything, everything, 10)


async def prepare(path: Path) -> None:
    counting("first")
    counting("second")
    async with Database(path) as database:
        await make_tables(database)
