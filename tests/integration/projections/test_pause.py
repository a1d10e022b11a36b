"""Paused projections: they stop while the others continue, and catch up when resumed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore import nix
from eventstore.errors import WaitTimeout
from eventstore.messages.codec import Codec
from eventstore.nix import FlakeCreated, FlakeInputAdded, ModuleCreated
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.store.store import EventStore
from projections import nix_migrations, nix_projections
from tests.integration.projections.test_worker import append, contents, following, inputs


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return nix.domain(domain_name).codec


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "read_model.sqlite", migrations=nix_migrations()) as database:
        await database.migrate()
        yield database


def names(worker: ProjectionWorker, state: str) -> set[str]:
    return {name for name, each in worker.progress.items() if each.state == state}


async def flake(store: EventStore, number: int) -> int:
    own = f"f{number}"
    return await append(
        store,
        "flake",
        own,
        FlakeCreated(path=f"./{own}", description=""),
        FlakeInputAdded(name=f"n{number}", url="u"),
    )


async def module(store: EventStore, number: int) -> int:
    return await append(store, "module", f"m{number}", ModuleCreated(name="m", content="c"))


async def test_a_paused_projection_stops_and_the_others_continue(
    store: EventStore, database: Database
) -> None:
    async with following(store, database) as worker:
        first = await flake(store, 1)
        await worker.wait(first, 20)
        worker.pause(["flakes"])
        await flake(store, 2)
        last = await module(store, 1)
        await worker.wait(last, 20, projection="modules")

        assert names(worker, "paused") == {"flakes"}
        assert worker.progress["flakes"].position == worker.position == first
        assert set(await inputs(database)) == {"n1"}
        assert set(await contents(database)) == {"m1"}
        with pytest.raises(WaitTimeout):
            await worker.wait(last, 0.01)


async def test_a_resumed_one_catches_up_and_repeats_nothing_for_the_others(
    store: EventStore, database: Database
) -> None:
    async with following(store, database) as worker:
        await worker.wait(await flake(store, 1), 20)
        worker.pause(["flakes"])
        await flake(store, 2)
        await worker.wait(await module(store, 1), 20, projection="modules")
        applied = worker.progress["modules"].applied

        worker.pause([])
        assert worker.progress["flakes"].state == "catching_up"
        last = await flake(store, 3)
        await worker.wait(last, 20)

        assert set(await inputs(database)) == {"n1", "n2", "n3"}
        assert worker.progress["modules"].applied == applied
        assert names(worker, "paused") == set()


async def test_all_can_be_paused_before_it_begins_and_resumed_one_by_one(
    store: EventStore, database: Database
) -> None:
    await flake(store, 1)
    last = await module(store, 1)
    worker = ProjectionWorker(store, database, nix_projections())
    everything = list(worker.progress)
    worker.pause(everything)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        worker.pause([name for name in everything if name != "modules"])
        await worker.wait(last, 20, projection="modules")
        assert set(await contents(database)) == {"m1"}
        assert await inputs(database) == {}
        worker.pause([])
        await worker.wait(last, 20)
        assert set(await inputs(database)) == {"n1"}
        worker.stop()


async def test_what_this_worker_does_not_have_is_passed_over(
    store: EventStore, database: Database
) -> None:
    async with following(store, database) as worker:
        worker.pause(["of_another_service"])
        await worker.wait(await flake(store, 1), 20)
        assert names(worker, "paused") == set()


async def test_a_worker_of_paused_projections_can_be_stopped(
    store: EventStore, database: Database
) -> None:
    async with following(store, database) as worker:
        worker.pause(list(worker.progress))
    assert names(worker, "paused") == set(worker.progress)
