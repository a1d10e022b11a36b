"""Rebuild a projection beside its live rows, which queries see until the new ones are complete.

No reactions are called meanwhile: they are for new events, and a rebuild has only old ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Literal

from msgspec import Struct
from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError, IntegrityError

from eventstore.errors import CannotReplace, PoisonEvent, ProjectionError
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import cause_of
from eventstore.projections.database.database import Database
from eventstore.projections.database.locks import locked
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.plan import plan
from eventstore.projections.rebuild.read_ahead import ReadAhead
from eventstore.projections.rebuild.shadow import Shadow, opened_shadow, shadow_of
from eventstore.projections.rebuild.switch import SwitchBehind, switch
from eventstore.store.reader import Page
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

NEAR = 200
"""How many events may be left to be applied in the switch itself, while other writers wait."""

MAX_ROUNDS = 20
"""How often the end of the log is reached with more events left before the switch is made anyway:
if events arrive as fast as they are applied, the rebuild would never end."""

Phase = Literal["building", "switching", "done"]


class RebuildProgress(Struct, frozen=True):
    """The progress of a rebuild.

    `position` is the last log position in the new rows, `events` how many events of the log this
    run has processed, `pending` how many are left in the log. The phase is "switching" while
    the new rows replace the live ones, and "done" when they have.
    """

    phase: Phase
    position: int
    events: int
    pending: int


class Rebuild:
    """Rebuilds the rows of one projection and replaces the old ones by them; runs once.

    `batch` is how many events one transaction has at most; `retry_timeout` is for how many seconds
    a live database that is locked is retried, and events are waited for that the live rows already
    have. With `from_scratch`, the shadow of an earlier rebuild is dropped; otherwise it is
    continued if it fits: the same version of the projection, the same tables, the same log.
    `on_progress` is called in the event loop after each step.

    `started_at` is the position that it continued from, `events` how many events it has processed,
    `switched` whether the new rows are live, which they may be even if `run` was cancelled.

    Two rebuilds of a projection exclude each other, in all processes.
    """

    def __init__(
        self,
        store: EventStore,
        database: Database,
        projection: Projection,
        *,
        batch: int = 5_000,
        retry_timeout: float = 30.0,
        from_scratch: bool = False,
        skip_unknown: bool = False,
        on_progress: Callable[[RebuildProgress], None] = lambda _progress: None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self.projection = projection
        self.started_at = 0
        self.events = 0
        self.switched = False
        self._store = store
        self._database = database
        self._batch = batch
        self._retry_timeout = retry_timeout
        self._from_scratch = from_scratch
        self._log = ""
        self._skip_unknown = skip_unknown
        self._on_progress = on_progress
        self._telemetry = telemetry

    async def run(self) -> int:
        """Rebuild and switch; returns the log position of the rows that are live now.

        Until then the old rows stay unchanged, whatever happens. If it is cancelled or killed, or
        fails, the next one continues its shadow.

        Raises `OwnedElsewhere` if the projection is being rebuilt already, `CannotReplace`, before
        anything is built, if that would touch what is not the projection's, `PoisonEvent` for an
        event that it cannot take, `DatabaseUnavailable`, `ProjectionError` if the live rows are
        made of events that the log does not have, and what the store raises for a log that cannot
        be read.
        """
        self._log = await self._store.identity()
        async with (
            locked(self._database, f"rebuild-{self.projection.name}"),
            opened_shadow(
                self._database,
                self.projection,
                log=self._log,
                epoch=await self._epoch(),
                from_scratch=self._from_scratch,
            ) as shadow,
        ):
            self.started_at = shadow.position
            await self._check(shadow)
            try:
                position = await self._build(shadow)
            finally:
                if self.switched:
                    await shadow.database.drop()
        self._report("done", position, 0)
        return position

    async def _epoch(self) -> int:
        """The epoch of the live rows; 0 if there are none."""
        async with self._database.engine.connect() as connection:
            live = await connection.run_sync(checkpoint.read, self.projection.name)
        return 0 if live is None else live.epoch

    async def _check(self, shadow: Shadow) -> None:
        """Raise `CannotReplace` if the switch would be impossible."""
        try:
            await self._database.compare(
                shadow.database,
                partial(plan, projection=self.projection),
                retry_timeout=self._retry_timeout,
            )
        except CannotReplace:
            if shadow.position == 0:
                await shadow.database.drop()
            raise

    async def _build(self, shadow: Shadow) -> int:
        pages = self._store.pages(
            after=shadow.position,
            live=True,
            max_events=self._batch,
            skip_unknown=self._skip_unknown,
            unread=True,
            log=self._log,
            mark=shadow.mark,
        )
        async with ReadAhead(pages, max_events=2 * self._batch) as ahead:
            live_position = rounds = 0
            while True:
                page = await self._next(ahead, live_position)
                events = page.log_events
                await shadow.apply(events, page.position)
                self.events += len(events)
                self._telemetry.count(
                    "events_projected", len(events), projection=self.projection.name
                )
                self._report("building", shadow.position, page.pending)
                rounds += page.pending == 0
                if page.pending == 0 and (ahead.count < NEAR or rounds > MAX_ROUNDS):
                    switched = await self._switch(shadow, ahead)
                    if isinstance(switched, int):
                        return switched
                    live_position = switched.position

    async def _next(self, ahead: ReadAhead, live_position: int) -> Page:
        """The next page; waits without limit, unless the live rows already have its events."""
        try:
            async with asyncio.timeout(self._retry_timeout if live_position else None):
                return await ahead.take(self._batch)
        except TimeoutError:
            raise ProjectionError(
                f"projection {self.projection.name}: its rows are at position {live_position}, "
                "which the log does not reach; they were built from another log: use another "
                "database, or reset it"
            ) from None

    async def _switch(self, shadow: Shadow, ahead: ReadAhead) -> int | SwitchBehind:
        self._report("switching", shadow.position, 0)
        await shadow.announce_switch(await self._epoch() + 1)

        def work(connection: Connection, shadow_of: Callable[[Table], Table]) -> int | SwitchBehind:
            return switch(
                *(connection, shadow_of, self.projection, shadow.position),
                *(ahead.buffered, self._log, shadow.mark),
            )

        try:
            return await self._database.take_over(
                shadow.database, work, retry_timeout=self._retry_timeout, committed=self._committed
            )
        except PoisonEvent as poison:
            # The shadow reaches it next, and stops or parks it.
            return SwitchBehind(poison.position)
        except IntegrityError as error:
            raise CannotReplace(
                f"projection {self.projection.name}: the new rows do not fit into its tables: "
                f"{_in_words(error)}. Nothing was changed"
            ) from error
        except DBAPIError as error:
            raise CannotReplace(
                f"projection {self.projection.name}: the database refuses to replace its tables: "
                f"{_in_words(error)}. Nothing was changed"
            ) from error

    def _committed(self, result: int | SwitchBehind) -> None:
        self.switched = isinstance(result, int)
        if self.switched:
            self._database.forget_definitions()

    def _report(self, phase: Phase, position: int, pending: int) -> None:
        self._on_progress(RebuildProgress(phase, position, self.events, pending))


def _in_words(error: DBAPIError) -> str:
    """What the database says, in a line; without PostgreSQL's hint, which may be to drop more."""
    lines = str(cause_of(error)).splitlines()
    return "; ".join(line.rstrip(".") for line in lines if not line.startswith("HINT"))


async def drop_shadow(database: Database, projection: Projection) -> bool:
    """Drop the shadow that a rebuild has left; returns whether there was one.

    Raises `OwnedElsewhere` while another process is rebuilding the projection.
    """
    async with locked(database, f"rebuild-{projection.name}"):
        shadow = shadow_of(database, projection)
        was_there = await shadow.exists()
        await shadow.drop()
        return was_there
