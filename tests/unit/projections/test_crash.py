"""A process that dies in the middle of a transaction, and the next one, which continues."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from tests.unit.projections.counters import (
    Counted,
    codec,
    counting,
    make_tables,
    position_in,
    rows_of,
)
from tests.unit.projections.memory import MemoryLog

DIED = 77


def work(location: str, dies: Callable[[Counted], object]) -> int:
    """Follow ten events in pages of four, with two projections; the position of the first."""

    async def run() -> int:
        log = MemoryLog(codec)
        log.add("c", *(Counted(by=n) for n in range(1, 11)))
        projections = [counting("first"), counting("second", fails=dies)]
        async with Database(location) as database:
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


def work_and_die(location: str, at: int) -> None:
    work(location, lambda event: os._exit(DIED) if event.by == at else None)


async def state(location: str) -> tuple[list[int], list[int], int | None]:
    first, second = counting("first"), counting("second")
    async with Database(location) as database:
        position = await position_in(database, second)
        rows = [[row[1] for row in await rows_of(database, each)] for each in (first, second)]
        return rows[0], rows[1], position


@pytest.mark.parametrize(("at", "kept"), [(1, 0), (4, 0), (5, 4), (7, 4), (10, 8)])
def test_a_crash_repeats_nothing_and_skips_nothing(
    sqlite_read_model: Path, at: int, kept: int
) -> None:
    crash_and_go_on(str(sqlite_read_model), at, kept)


def test_a_crash_repeats_nothing_and_skips_nothing_in_postgresql(
    postgresql_read_model: str,
) -> None:
    crash_and_go_on(postgresql_read_model, at=7, kept=4)


def crash_and_go_on(location: str, at: int, kept: int) -> None:
    asyncio.run(prepare(location))

    process = multiprocessing.get_context("spawn").Process(target=work_and_die, args=(location, at))
    process.start()
    process.join(30)
    assert process.exitcode == DIED

    whole = list(range(1, kept + 1))
    assert asyncio.run(state(location)) == (whole, whole, kept)

    assert work(location, lambda _event: None) == 10
    everything = list(range(1, 11))
    assert asyncio.run(state(location)) == (everything, everything, 10)


async def prepare(location: str) -> None:
    counting("first")
    counting("second")
    async with Database(location) as database:
        await make_tables(database)
