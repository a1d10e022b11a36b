"""Log readers: each reads the log for the projections that are near each other in it.

A projection that is behind has a reader of its own and delays no other; once it comes near to
another reader, the two are joined. In the end there is one reader, and one transaction for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from eventstore.errors import (
    CheckpointReset,
    DatabaseUnavailable,
    PoisonEvent,
    ProjectionError,
    ProjectionFailed,
)
from eventstore.messages.envelope import utc_now
from eventstore.messages.events import LogEvent
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import cause_of
from eventstore.projections.worker.apply import AppliedBatch, apply
from eventstore.projections.worker.progress import Rate
from eventstore.projections.worker.runner import ProjectionRunner, WorkerContext
from eventstore.store.log_mark import LogMark
from eventstore.store.reader import Page

_NEAR_LIVE = 100
"""How many events a reader may lag behind a live one for that one to wait for it."""


class LogReader:
    """One reader of the log, and the projections that it applies events to.

    `log` is the identity of the log that their rows are built from. `position` is the end of the
    last page, which may not be applied yet; `mark` is what the log had there when it began;
    `pending` is how many events were left after it. Who
    has the `lock` keeps the reader from applying the next page.
    """

    def __init__(
        self,
        readers: LogReaders,
        context: WorkerContext,
        log: str | None,
        position: int,
        mark: LogMark | None,
    ) -> None:
        self.position = position
        self.mark = mark
        self.pending: int | None = None
        self.runners: list[ProjectionRunner] = []
        self.lock = asyncio.Lock()
        self.task: asyncio.Task[None] | None = None
        self.is_reading = False
        self._readers = readers
        self._context = context
        self._log = log
        self._rate = Rate()

    @property
    def is_live(self) -> bool:
        """Whether it has reached the end of the log."""
        return self.pending == 0

    def add(self, runner: ProjectionRunner) -> None:
        """Add a projection whose rows are at this reader's position, or ahead of it."""
        self.runners.append(runner)
        runner.progress.meter = self._rate
        if self.is_live and runner.progress.position >= self.position:
            runner.caught_up()

    async def run(self) -> None:
        """Read and apply pages, until no projection is left, or all have joined another reader."""
        self.is_reading = True
        # 1. read
        pages = self._context.store.pages(
            after=self.position,
            live=True,
            max_events=self._context.batch,
            skip_unknown=self._context.skip_unknown,
            unread=True,
            log=self._log,
            shared=True,
            mark=self.mark,
        )
        async with aclosing(pages), AsyncExitStack() as paused:
            ahead: LogReader | None = None
            async for page in pages:
                async with self.lock:
                    await self.take_page(page)
                if ahead is None:
                    ahead = await self._find_ahead(paused)
                if ahead is not None and self.position >= ahead.position:
                    self._join(ahead)
                if not self.runners:
                    return

    async def _find_ahead(self, paused: AsyncExitStack) -> LogReader | None:
        """The reader just ahead, to be joined; unless it is exactly here, it waits for this one."""
        ahead = self._readers.ahead_of(self)
        if ahead is None or ahead.position == self.position:
            return ahead
        await paused.enter_async_context(ahead.lock)
        if ahead in self._readers:
            return ahead
        await paused.aclose()
        return None

    def _join(self, ahead: LogReader) -> None:
        self._readers.remove(self)
        for runner in self.runners:
            self._readers.assign(runner, ahead)
        self.runners.clear()

    async def take_page(self, page: Page) -> None:
        """Apply a page to the projections that lack it, and report it."""
        previous, self.position = self.position, page.position
        # 2. select
        behind = [
            each
            for each in self._up_to_date(previous)
            if each.is_following and each.progress.position < page.position
        ]
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
                each.caught_up()
        self._context.page_done(page.position, page.pending)

    def _up_to_date(self, position: int) -> list[ProjectionRunner]:
        """Those that lack nothing that was read before; others have to find another reader."""
        for each in [each for each in self.runners if each.progress.position < position]:
            self._readers.unassign(each)
            each.find_other_reader()
        return list(self.runners)

    async def _apply(
        self, behind: Sequence[ProjectionRunner], events: Sequence[LogEvent], until: int
    ) -> None:
        """All projections in one transaction; if that fails, each in its own."""
        # 3. transact
        if len(behind) > 1 and await self._apply_together(behind, events, until):
            return
        for each in behind:
            if each.is_following:  # another worker may own it by now
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
        self, runner: ProjectionRunner, events: Sequence[LogEvent], until: int
    ) -> None:
        """One projection, up to what it cannot take; whatever stops it stops no other."""
        try:
            await self._commit_alone(runner, events, until)
        except DatabaseUnavailable:
            raise
        except CheckpointReset:
            self._readers.unassign(runner)
            runner.restart_from_checkpoint()
        except PoisonEvent as poison:
            # 9. recover
            if poison.position - 1 > runner.progress.position:
                await self._apply_alone(runner, events, poison.position - 1)
            self._failed(runner, poison)
        except ProjectionError as error:
            self._failed(runner, error)
        except SQLAlchemyError as error:
            failure = ProjectionFailed(
                f"projection {runner.name} before position {until}: {cause_of(error)}"
            )
            failure.__cause__ = error
            self._failed(runner, failure)

    async def _commit_alone(
        self, runner: ProjectionRunner, events: Sequence[LogEvent], until: int
    ) -> None:
        """Commit one projection; with savepoints only if there is an event to be found by them."""
        try:
            await self._commit([runner], events, until)
        except PoisonEvent:
            raise
        except ProjectionFailed:
            await self._commit([runner], events, until, savepoints=True)

    def _failed(self, runner: ProjectionRunner, trouble: ProjectionError) -> None:
        if runner in self.runners:  # else the events before that one have failed, too
            self._readers.unassign(runner)
            runner.report_failure(trouble)

    async def _commit(
        self,
        several: Sequence[ProjectionRunner],
        events: Sequence[LogEvent],
        until: int,
        *,
        savepoints: bool = False,
    ) -> None:
        expected = [each.expected for each in several]
        rate = self._rate.value

        def committed(results: list[AppliedBatch]) -> None:
            for each, applied in zip(several, results, strict=True):
                each.advanced(events, until, applied)

        def waiting(trouble: DatabaseUnavailable) -> None:
            for each in several:
                each.wait_for_database(trouble)

        await self._context.database.transact(
            lambda connection: apply(
                connection, expected, events, until, utc_now(), rate, savepoints=savepoints
            ),
            retry_timeout=self._context.retry_timeout,
            committed=committed,
            is_committed=lambda connection: checkpoint.are_at(connection, expected, until),
            on_wait=waiting,
        )


class LogReaders:
    """All log readers of a worker; `spawn` makes tasks of them."""

    def __init__(
        self,
        context: WorkerContext,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._context = context
        self._readers: list[LogReader] = []
        self._reader_of: dict[ProjectionRunner, LogReader] = {}
        self._spawn = spawn

    def __contains__(self, reader: LogReader) -> bool:
        return reader in self._readers

    @property
    def pending(self) -> int | None:
        """How many events are left in the log after the reader that is furthest behind."""
        known = [reader.pending for reader in self._readers if reader.pending is not None]
        return max(known, default=None)

    def enter(self, runner: ProjectionRunner) -> None:
        """Apply events to a projection from its position on, by a reader there or a new one."""
        position = runner.progress.position
        reader = next((each for each in self._readers if self._can_take(each, position)), None)
        if reader is None:
            reader = LogReader(self, self._context, runner.log, position, runner.mark)
            self._readers.append(reader)
            reader.task = self._spawn(reader.run())
        if not reader.is_reading and position < reader.position:
            reader.position, reader.mark = position, runner.mark
        self.assign(runner, reader)

    async def leave(self, runner: ProjectionRunner) -> None:
        """Apply no more events to it; returns when a transaction that is under way has ended."""
        while (reader := self._reader_of.get(runner)) is not None:
            async with reader.lock:
                if self._reader_of.get(runner) is reader:
                    self.unassign(runner)
                    if not reader.runners and reader.task is not None:
                        reader.task.cancel()

    def assign(self, runner: ProjectionRunner, reader: LogReader) -> None:
        """Have a reader apply events to a projection."""
        self._reader_of[runner] = reader
        reader.add(runner)

    def unassign(self, runner: ProjectionRunner) -> None:
        """Have no reader apply events to a projection; a reader without projections is removed."""
        reader = self._reader_of.pop(runner)
        reader.runners.remove(runner)
        if not reader.runners:
            self.remove(reader)

    def remove(self, reader: LogReader) -> None:
        """Have no projection join a reader any more."""
        if reader in self._readers:
            self._readers.remove(reader)

    def ahead_of(self, reader: LogReader) -> LogReader | None:
        """Another reader at the same position, or so little ahead that it can wait for this one."""
        for other in self._readers:
            near = min(_NEAR_LIVE, self._context.batch) if other.is_live else self._near
            if other is not reader and 0 <= other.position - reader.position <= near:
                return other
        return None

    @property
    def _near(self) -> int:
        return 2 * self._context.batch

    def _can_take(self, reader: LogReader, position: int) -> bool:
        """Whether it has not read beyond a position yet, and will be there soon."""
        if not reader.is_reading:
            return abs(reader.position - position) <= self._near
        return reader.position <= position <= reader.position + self._near
