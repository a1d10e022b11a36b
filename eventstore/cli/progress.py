"""The progress of long work on many events: how many, how fast, and how long still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["Moved", "events_bar"]

Moved = Callable[[int, int], None]
"""Takes how many events are done, and how many there are."""


class _Rate(ProgressColumn):
    """Events a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def events_bar(console: Console, what: str) -> Iterator[Moved]:
    """A bar that moves until the end of the block."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=None)

        def moved(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield moved
