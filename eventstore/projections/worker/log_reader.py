"""Lanes: readers of the log, each for the projections that are near each other in it.

A projection that is behind has a lane of its own and holds nobody up; once it has come near to
another lane, the two become one. In the end there is one reader, and one transaction for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from eventstore.errors import ProjectionError, ProjectionFailed
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import cause_of
from eventstore.projections.database.checkpoint import CheckpointReset
from eventstore.projections.database.database import DatabaseUnavailable
from eventstore.projections.worker.apply import AppliedBatch, PoisonEvent, apply
from eventstore.projections.worker.progress import Rate
from eventstore.projections.worker.runner import ProjectionRunner, WorkerContext
from eventstore.store.reader import Page

__all__ = ["LogReader", "LogReaders"]

_NEAR_LIVE = 100
"""How many events a lane may lag behind one that is live for that one to wait for it."""


class LogReader:
    """One reader of the log, and the projections it brings events to.

    `log` is the identity of the one that their rows are built from. `position` is the end of the
    last page, which may be being applied; `pending` is how many events were left after it.
    """

    def __init__(
        self, lanes: LogReaders, context: WorkerContext, log: str | None, position: int
    ) -> None:
        self.position = position
        self.pending: int | None = None
        self.followers: list[ProjectionRunner] = []
        self.gate = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.is_reading = False
        self._lanes = lanes
        self._context = context
        self._log = log
        self._rate = Rate()

    @property
    def is_live(self) -> bool:
        """Whether it has come to the end of the log."""
        return self.pending == 0

    def add(self, follower: ProjectionRunner) -> None:
        """Bring events to one that has everything up to this lane's position, or more."""
        self.followers.append(follower)
        follower.progress.meter = self._rate
        if self.is_live and follower.progress.position >= self.position:
            follower.arrive()

    async def run(self) -> None:
        """Bring events, until nobody is here any more, or all have gone over to another lane."""
        self.is_reading = True
        # 1. read
        pages = self._context.store.pages(
            after=self.position,
            live=True,
            max_events=self._context.batch,
            skip_unknown=self._context.skip_unknown,
            unread=True,
            log=self._log,
        )
        async with aclosing(pages), AsyncExitStack() as held:
            ahead: LogReader | None = None
            async for page in pages:
                async with self.gate:
                    await self.take_page(page)
                if ahead is None:
                    ahead = await self._hold_up(held)
                if ahead is not None and self.position >= ahead.position:
                    self._go_over(ahead)
                if not self.followers:
                    return

    async def _hold_up(self, held: AsyncExitStack) -> LogReader | None:
        """Another lane that is just ahead; unless it is exactly here, it waits for this one."""
        ahead = self._lanes.ahead_of(self)
        if ahead is None or ahead.position == self.position:
            return ahead
        await held.enter_async_context(ahead.gate)
        if ahead in self._lanes:
            return ahead
        await held.aclose()
        return None

    def _go_over(self, ahead: LogReader) -> None:
        self._lanes.remove(self)
        for follower in self.followers:
            self._lanes.put(follower, ahead)
        self.followers.clear()

    async def take_page(self, page: Page) -> None:
        """Apply a page to those that lack it, and report it."""
        previous, self.position = self.position, page.position
        # 2. select
        behind = [each for each in self._up_to_date(previous) if self._lacks(each, page)]
        if behind:
            events = page.log_events
            self._rate.add(len(events))
            origins = (event.envelope.traceparent for event in events)
            with self._context.telemetry.span("project", links=origins, events=len(events)):
                await self._apply(behind, events, page.position)
        # 8. report
        self.pending = page.pending
        for each in self._up_to_date(page.position):
            if self.is_live:
                each.arrive()
        self._context.page_done(page.position, page.pending)

    def _lacks(self, follower: ProjectionRunner, page: Page) -> bool:
        return follower.is_following and follower.progress.position < page.position

    def _up_to_date(self, position: int) -> list[ProjectionRunner]:
        """Those that have missed nothing of what this lane has read."""
        for each in [each for each in self.followers if each.progress.position < position]:
            self._lanes.take_out(each)
            each.leave_lane()
        return list(self.followers)

    async def _apply(
        self, behind: Sequence[ProjectionRunner], events: Sequence[LogEvent], until: int
    ) -> None:
        """All projections in one transaction; where that fails, each by itself."""
        # 3. transact
        if len(behind) > 1 and await self._apply_together(behind, events, until):
            return
        for each in behind:
            if each.is_following:  # and not another worker's meanwhile
                await self._apply_alone(each, events, until)

    async def _apply_together(
        self, behind: Sequence[ProjectionRunner], events: Sequence[LogEvent], until: int
    ) -> bool:
        try:
            await self._commit(behind, events, until)
        except DatabaseUnavailable:
            raise
        except (ProjectionError, SQLAlchemyError):
            return False
        return True

    async def _apply_alone(
        self, follower: ProjectionRunner, events: Sequence[LogEvent], until: int
    ) -> None:
        """One projection, as far as it goes; whatever stops it stops no other."""
        try:
            await self._commit([follower], events, until)
        except DatabaseUnavailable:
            raise
        except CheckpointReset:
            self._lanes.take_out(follower)
            follower.renew()
        except PoisonEvent as poison:
            # 9. recover
            if poison.position - 1 > follower.progress.position:
                await self._apply_alone(follower, events, poison.position - 1)
            self._stumbled(follower, poison)
        except ProjectionError as error:
            self._stumbled(follower, error)
        except SQLAlchemyError as error:
            failure = ProjectionFailed(
                f"projection {follower.name} before position {until}: {cause_of(error)}"
            )
            failure.__cause__ = error
            self._stumbled(follower, failure)

    def _stumbled(self, follower: ProjectionRunner, trouble: ProjectionError) -> None:
        if follower in self.followers:  # else the way to the event has failed otherwise
            self._lanes.take_out(follower)
            follower.stumble(trouble)

    async def _commit(
        self, several: Sequence[ProjectionRunner], events: Sequence[LogEvent], until: int
    ) -> None:
        held = [each.held for each in several]
        rate = self._rate.value

        def committed(results: list[AppliedBatch]) -> None:
            for each, applied in zip(several, results, strict=True):
                each.moved(events, until, applied)

        def waiting(trouble: DatabaseUnavailable) -> None:
            for each in several:
                each.wait_for_database(trouble)

        await self._context.database.transact(
            lambda connection: apply(connection, held, events, until, utc_now(), rate),
            retry_timeout=self._context.retry_timeout,
            committed=committed,
            stands=lambda connection: checkpoint.are_at(connection, held, until),
            waiting=waiting,
        )


class LogReaders:
    """All lanes of a worker; `spawn` makes tasks of them."""

    def __init__(
        self,
        context: WorkerContext,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._context = context
        self._lanes: list[LogReader] = []
        self._where: dict[ProjectionRunner, LogReader] = {}
        self._spawn = spawn

    def __contains__(self, lane: LogReader) -> bool:
        return lane in self._lanes

    @property
    def pending(self) -> int | None:
        """How many events are left in the log after the lane that is furthest back."""
        known = [lane.pending for lane in self._lanes if lane.pending is not None]
        return max(known, default=None)

    def enter(self, follower: ProjectionRunner) -> None:
        """Bring events to a follower from where it is, by a lane there or a new one."""
        position = follower.progress.position
        lane = next((each for each in self._lanes if self._suits(each, position)), None)
        if lane is None:
            lane = LogReader(self, self._context, follower.log, position)
            self._lanes.append(lane)
            lane.task = self._spawn(lane.run())
        if not lane.is_reading:
            lane.position = min(lane.position, position)
        self.put(follower, lane)

    async def leave(self, follower: ProjectionRunner) -> None:
        """Return when no more events come, the transaction at hand included."""
        while (lane := self._where.get(follower)) is not None:
            async with lane.gate:
                if self._where.get(follower) is lane:
                    self.take_out(follower)
                    if not lane.followers and lane.task is not None:
                        lane.task.cancel()

    def put(self, follower: ProjectionRunner, lane: LogReader) -> None:
        """Have a lane bring events to a follower."""
        self._where[follower] = lane
        lane.add(follower)

    def take_out(self, follower: ProjectionRunner) -> None:
        """Have no lane bring events to a follower; a lane without any is not there any more."""
        lane = self._where.pop(follower)
        lane.followers.remove(follower)
        if not lane.followers:
            self.remove(lane)

    def remove(self, lane: LogReader) -> None:
        """Have nobody come to a lane any more."""
        if lane in self._lanes:
            self._lanes.remove(lane)

    def ahead_of(self, lane: LogReader) -> LogReader | None:
        """Another lane at the same position, or so little ahead that it can wait for this one."""
        for other in self._lanes:
            near = min(_NEAR_LIVE, self._context.batch) if other.is_live else self._near
            if other is not lane and 0 <= other.position - lane.position <= near:
                return other
        return None

    @property
    def _near(self) -> int:
        return 2 * self._context.batch

    def _suits(self, lane: LogReader, position: int) -> bool:
        """Whether it has not read what a follower at this position lacks, and is soon there."""
        if not lane.is_reading:
            return abs(lane.position - position) <= self._near
        return lane.position <= position <= lane.position + self._near
