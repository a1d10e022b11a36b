"""Progress bars: how many events or bytes are done, how fast, and the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


class Advance(Protocol):
    """Takes how many are done, how many there are, and a new description if it changes."""

    def __call__(self, done: int, total: int, what: str | None = None, /) -> None:
        """Move the bar."""


class _Rate(ProgressColumn):
    """Events a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def events_bar(console: Console, what: str) -> Iterator[Advance]:
    """A bar that moves until the end of the block; it appears when it first moves.

    So an error before that, as a file that is missing, stands alone.
    """
    with _bar(console, what, MofNCompleteColumn(), _Rate()) as advance:
        yield advance


@contextmanager
def bytes_bar(console: Console, what: str) -> Iterator[Advance]:
    """As `events_bar`, of bytes."""
    with _bar(console, what, DownloadColumn(), TransferSpeedColumn()) as advance:
        yield advance


@contextmanager
def _bar(console: Console, what: str, *amounts: ProgressColumn) -> Iterator[Advance]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        *amounts,
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=console)
    bar = progress.add_task(what, total=None)
    current = what

    def advance(done: int, total: int, now: str | None = None, /) -> None:
        nonlocal current
        if now is not None and now != current:
            current = now
            progress.reset(bar, description=now)
        progress.update(bar, completed=done, total=total)
        progress.start()

    try:
        yield advance
    finally:
        if progress.live.is_started:
            progress.stop()
