"""Rebuilding: its rate, alternating with catching up, and the time of the switch."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from sqlalchemy import Connection, insert

from eventstore import (
    NO_STREAM,
    EventStore,
    connect,
    declare,
    load_settings,
    nix,
    running,
    topology,
)
from eventstore.messages.envelope import utc_now
from eventstore.projections.database.database import Database
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from projections import flakes, nix_migrations
from projections.models import flake, flake_input
from tests.bench.loop import run
from tests.bench.store import event
from tests.bench.turns import in_turns

FLAKES = 1_000
INPUTS = 9
EVENTS = FLAKES * (INPUTS + 1)
SLICES = 5
SWITCHED = (100_000, 1_000_000)


class Stopwatch:
    """The times at which the phases of a rebuild began."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {"": time.perf_counter()}

    def __call__(self, progress: RebuildProgress) -> None:
        self.at.setdefault(progress.phase, time.perf_counter())

    def seconds(self, since: str, until: str) -> float:
        return self.at[until] - self.at[since]


async def measure() -> None:
    """Print how fast a projection is rebuilt, and how long the switch takes for many rows."""
    codec = nix.domain().codec
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client, EventStore(client, codec) as store:
                await declare(client, topology(codec.subjects, settings.streams))
                for number in range(FLAKES):
                    created = nix.FlakeCreated(path=f"./{number}", description="")
                    events = [created, *(event(each) for each in range(INPUTS))]
                    await store.append("flake", f"f{number}", events, expected=NO_STREAM)
                await _rates(store, Path(directory))
                for rows in SWITCHED:
                    async with Database(
                        Path(directory) / f"{rows}.sqlite", migrations=nix_migrations()
                    ) as database:
                        await database.migrate()
                        await _switch(store, database, rows)


async def _rates(store: EventStore, directory: Path) -> None:
    """Each slice is the complete log: once into a new database, once as a shadow of live rows."""
    switches: list[float] = []

    async def catch_up(number: int, name: str = "new") -> float:
        async with Database(
            directory / f"{name}{number}.sqlite", migrations=nix_migrations()
        ) as database:
            await database.migrate()
            worker = ProjectionWorker(store, database, [flakes.flakes])
            began = time.perf_counter()
            async with running(worker):
                await worker.wait(EVENTS, timeout=300)
                return EVENTS / (time.perf_counter() - began)

    async def rebuild(number: int) -> float:
        async with Database(directory / "live0.sqlite") as database:
            watch = Stopwatch()
            await Rebuild(store, database, flakes.flakes, on_progress=watch).run()
        switches.append(watch.seconds("switching", "done"))
        return EVENTS / watch.seconds("", "switching")

    await catch_up(0, "live")
    rebuilt = await in_turns(rebuild, catch_up, SLICES)
    print(f"catching up, one projection, {EVENTS:,} events: {rebuilt.bare:,.0f} events/s")
    print(
        f"rebuilding it: {rebuilt.rate:,.0f} events/s, {rebuilt.ratio:.2f} x catching up, "
        f"then {median(switches):.2f} s for the switch of {EVENTS:,} rows"
    )


async def _switch(store: EventStore, database: Database, rows: int) -> None:
    """The live table has many rows, and so has the shadow, which builds few of them itself."""
    watch = Stopwatch()

    def fill(connection: Connection) -> None:
        now = utc_now()
        last = {"version": 1, "position": 1, "created_at": now, "updated_at": now}
        row = {"path": "", "description": "", **last}
        connection.execute(insert(flake), [{"id": f"x{n}", **row} for n in range(rows // 10)])
        for tenth in range(9):
            row = {"name": f"input{tenth}", "url": event(tenth).url, **last}
            inputs = [{"flake_id": f"x{n}", **row} for n in range(rows // 10)]
            connection.execute(insert(flake_input), inputs)

    await database.transact(fill)

    class TimedRebuild(Rebuild):
        async def _switch(self, shadow, ahead):  # type: ignore[no-untyped-def]
            if "filled" not in watch.at:
                await shadow.database.transact(fill)
                watch.at["filled"] = time.perf_counter()
            return await super()._switch(shadow, ahead)

    await TimedRebuild(store, database, flakes.flakes, on_progress=watch).run()
    print(f"switching {rows:,} rows: {watch.seconds('switching', 'done'):.2f} s")


def main() -> None:
    """Run the benchmark."""
    run(measure())


if __name__ == "__main__":
    main()
