"""Progress: how each projection of a worker is doing, and waiting for a position."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from eventstore.errors import ProjectionError
from eventstore.projections.projection import Projection

__all__ = ["Progress", "ProgressBoard", "Rate", "State", "WaitTimeout"]

State = Literal["standby", "rebuilding", "catching_up", "live", "retrying", "paused", "failed"]
"""Where a projection is.

- standby: another worker keeps it up to date; this one takes over when that one ends
- rebuilding: its rows are of another version, and new ones are being made
- catching_up, live: events are applied; live once it has caught up, until something else happens
- retrying: it could not take an event, and tries it again after a pause
- paused: it stands still because it was told to
- failed: it has stopped, until its checkpoint is set anew
"""

_SHORTEST = 0.1


class WaitTimeout(ProjectionError, TimeoutError):
    """The read model has not reached a position in time; it may do so later.

    `position` was waited for, `reached` is how far all projections in question have come.
    """

    code = "wait_timeout"
    retryable = True

    def __init__(self, position: int, reached: int, seconds: float) -> None:
        super().__init__(
            f"the read model is at position {reached}, not at {position}, after {seconds:g} s"
        )
        self.position = position
        self.reached = reached
        self.seconds = seconds


class Rate:
    """A mean over the last `window` seconds, or over all of them where it is younger."""

    def __init__(self, window: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._clock = clock
        self._began = clock()
        self._counts: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int) -> None:
        """So many events, now."""
        self._counts.append((self._clock(), count))
        self._sum += count

    @property
    def value(self) -> float:
        """Events a second; 0 where there were none for as long as the window."""
        now = self._clock()
        while self._counts and self._counts[0][0] < now - self._window:
            self._sum -= self._counts.popleft()[1]
        return self._sum / min(self._window, max(now - self._began, _SHORTEST))


class Progress:
    """How one projection is doing; read it at any time, the worker keeps it up to date.

    `position` is the last log position committed, `applied` how many events were handled since
    the worker began, `error` why the projection stopped where `state` is "failed", `trouble` what
    it tries to get over where `state` is "retrying".
    """

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.state: State = "catching_up"
        self.position = 0
        self.applied = 0
        self.error: ProjectionError | None = None
        self.trouble: ProjectionError | None = None
        self.meter = Rate()

    @property
    def name(self) -> str:
        """The projection's name."""
        return self.projection.name

    @property
    def rate(self) -> float:
        """How many events of the log it goes through in a second, lately."""
        return self.meter.value if self.state in ("catching_up", "live") else 0.0


class ProgressBoard:
    """The progress of several projections, for those who wait for it."""

    def __init__(self, projections: Iterable[Projection]) -> None:
        self.progress: Mapping[str, Progress] = {each.name: Progress(each) for each in projections}
        self._changed = asyncio.Event()

    @property
    def position(self) -> int:
        """The log position that every projection has reached."""
        return min(each.position for each in self.progress.values())

    @property
    def failures(self) -> list[ProjectionError]:
        """Why projections stopped, for those that did."""
        return [each.error for each in self.progress.values() if each.error is not None]

    def tell(self) -> None:
        """Have those who wait look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, position: int, timeout: float, projection: str | None) -> None:
        """Return once one projection, or every one, has reached a position; raises as the worker's.

        `timeout` is seconds.
        """
        awaited = self._named(projection)
        try:
            async with asyncio.timeout(timeout):
                while [each for each in awaited if not _is_at(each, position)]:
                    await self._changed.wait()
        except TimeoutError:
            at = min(each.position for each in awaited)
            raise WaitTimeout(position, at, timeout) from None

    def _named(self, projection: str | None) -> list[Progress]:
        if projection is None:
            return list(self.progress.values())
        if projection not in self.progress:
            known = ", ".join(self.progress)
            raise ProjectionError(f"no projection {projection!r} in this worker; it has {known}")
        return [self.progress[projection]]


def _is_at(progress: Progress, position: int) -> bool:
    if progress.position < position and progress.error is not None:
        raise _anew(progress.error) from progress.error
    return progress.position >= position


def _anew(error: ProjectionError) -> ProjectionError:
    """An equal error; the one itself would keep the frames of everyone it was ever raised to."""
    equal = type(error).__new__(type(error), *error.args)
    equal.__dict__.update(error.__dict__)
    return equal
