"""`eventstore projection rebuild`: with a bar, beside a running service or without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct
from rich.console import Console

from eventstore import nix
from eventstore.cli.connecting import connected
from eventstore.cli.embedding import opened_server
from eventstore.cli.progress import Moved, events_bar
from eventstore.cli.projection_status import opened_read_model
from eventstore.cli.terminal import program
from eventstore.config import Settings
from eventstore.errors import ProjectionFailed
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress, drop_shadow
from eventstore.projections.worker.apply import PoisonEvent
from eventstore.store.store import EventStore

__all__ = ["Rebuilt", "discard", "opened_store", "rebuild_all"]


class Rebuilt(Struct, frozen=True):
    """A projection that was rebuilt: `events` were gone through, after the position `after`."""

    projection: str
    position: int
    events: int
    after: int
    seconds: float


async def rebuild_all(
    settings: Settings,
    directory: Path,
    projections: Sequence[Projection],
    console: Console,
    *,
    anew: bool,
    done: Callable[[Rebuilt], None],
) -> None:
    """Rebuild one after another, with a bar; `done` is told of each whose new rows are live.

    What was built of one that comes to no end is kept for the next time.
    """
    async with (
        opened_read_model(settings) as database,
        opened_store(settings, directory) as store,
    ):
        for each in projections:
            with events_bar(console, f"{each.name}: building") as moved:
                shown = _Shown(moved, each.name)
                rebuild = Rebuild(
                    store, database, each, from_scratch=anew, on_progress=shown.update
                )
                rebuilt = await _rebuild(rebuild, shown, console)
            done(rebuilt)


async def discard(settings: Settings, projections: Sequence[Projection]) -> list[str]:
    """Throw away what rebuilds have left; the names of those that had left something."""
    async with opened_read_model(settings) as database:
        return [each.name for each in projections if await drop_shadow(database, each)]


async def _rebuild(rebuild: Rebuild, shown: _Shown, console: Console) -> Rebuilt:
    name = rebuild.projection.name
    began = time.monotonic()
    kept = (
        f"what was built is kept: `{program()} projection rebuild {name}` goes on with it, "
        "--restart begins anew, --discard throws it away"
    )
    try:
        position = await rebuild.run()
    except PoisonEvent as poison:
        raise ProjectionFailed(
            f"{poison}. The old rows of {name} stay; when its code takes the event: {kept}"
        ) from poison
    except asyncio.CancelledError:
        became = "has its new rows" if rebuild.switched else f"keeps its old rows; {kept}"
        console.print(f"{name} {became}", soft_wrap=True)
        raise
    return Rebuilt(
        name, position, shown.events, rebuild.started_at, round(time.monotonic() - began, 3)
    )


@asynccontextmanager
async def opened_store(settings: Settings, directory: Path) -> AsyncIterator[EventStore]:
    """The log, on the server that is named or runs, or else on one that runs meanwhile."""
    async with (
        opened_server(settings, directory) as named,
        connected(named) as client,
        EventStore(client, nix.domain(named.nats.subject_prefix).codec) as store,
    ):
        yield store


class _Shown:
    """A rebuild as a bar, and how many events it has gone through."""

    def __init__(self, moved: Moved, name: str) -> None:
        self.events = 0
        self._moved = moved
        self._name = name

    def update(self, progress: RebuildProgress) -> None:
        """Show how far it is."""
        self.events = progress.events
        total = progress.events + progress.pending
        self._moved(progress.events, total, f"{self._name}: {progress.phase}")
