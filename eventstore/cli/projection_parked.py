"""`eventstore projection parked`, `retry` and `discard`: events that a projection has not taken."""

from __future__ import annotations

from pathlib import Path

from eventstore.cli.projection_status import opened_read_model
from eventstore.cli.rebuilding import opened_store
from eventstore.config import Settings
from eventstore.errors import NotParked
from eventstore.projections.projection import Projection
from eventstore.projections.worker import parked_events as parked
from eventstore.projections.worker.parked_events import ParkedEvent, RetryResult

__all__ = ["discard", "parked_event", "parked_events", "retry"]


async def parked_events(settings: Settings, projection: Projection) -> list[ParkedEvent]:
    """What a projection has parked, in the order of the log."""
    async with opened_read_model(settings) as database:
        return await parked.parked_events(database, projection.name)


async def parked_event(settings: Settings, projection: Projection, position: int) -> ParkedEvent:
    """What a projection has parked at a position; raises `NotParked`."""
    for each in await parked_events(settings, projection):
        if each.position == position:
            return each
    raise NotParked(position, f"projection {projection.name} has parked nothing there")


async def retry(
    settings: Settings, directory: Path, projection: Projection, position: int | None
) -> RetryResult:
    """Apply what is parked by the code as it is now; raises as `parked_events.retry` does."""
    async with (
        opened_read_model(settings) as database,
        opened_store(settings, directory) as store,
    ):
        return await parked.retry(store, database, projection, position)


async def discard(settings: Settings, projection: Projection, position: int) -> None:
    """Give up a parked event for good; raises `NotParked`."""
    async with opened_read_model(settings) as database:
        await parked.discard(database, projection.name, position)
