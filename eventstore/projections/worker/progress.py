"""Progress: the state, position and rate of each projection of a worker; waiting for a position."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal

from eventstore.errors import ProjectionError, WaitTimeout
from eventstore.projections.projection import Projection

State = Literal["standby", "rebuilding", "catching_up", "live", "retrying", "paused", "failed"]
"""The state of a projection.

- standby: another worker keeps it up to date; this one takes over when that one ends
- rebuilding: its rows are of another version, and new ones are being built
- catching_up, live: events are applied; live from when it has caught up, until another state
- retrying: it could not take an event, and retries it after a pause
- paused: it is paused
- failed: it has stopped, until somebody sets its checkpoint
"""

_WINDOW = 5.0
_SHORTEST = 0.1


class Rate:
    """Events a second, as a mean over the last 5 seconds, or over fewer while it is younger."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._counts: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int) -> None:
        """Count events, as of now."""
        self._counts.append((time.monotonic(), count))
        self._sum += count

    @property
    def value(self) -> float:
        """Events a second; 0 if there were none within the window."""
        now = time.monotonic()
        while self._counts and self._counts[0][0] < now - _WINDOW:
            self._sum -= self._counts.popleft()[1]
        return self._sum / min(_WINDOW, max(now - self._began, _SHORTEST))


class Progress:
    """The progress of one projection, kept up to date by the worker.

    `position` is the last log position committed, `applied` how many events were handled since
    the worker started, `error` why the projection stopped if `state` is "failed", `trouble` what
    is being retried if `state` is "retrying".
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
        """How many events of the log it processes in a second, lately."""
        return self.meter.value if self.state in ("catching_up", "live") else 0.0


class ProgressBoard:
    """The progress of several projections, to be waited for."""

    def __init__(self, projections: Iterable[Projection]) -> None:
        self.progress: Mapping[str, Progress] = {each.name: Progress(each) for each in projections}
        self._changed = asyncio.Event()

    @property
    def position(self) -> int:
        """The log position that every projection has reached."""
        return min(each.position for each in self.progress.values())

    @property
    def failures(self) -> list[ProjectionError]:
        """Why projections have stopped; one error for each that has."""
        return [each.error for each in self.progress.values() if each.error is not None]

    def notify(self) -> None:
        """Wake everyone who waits, to check again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, position: int, timeout: float, projection: str | None) -> None:
        """Return once one projection, or every one, has reached a position.

        `timeout` is seconds. Raises as `ProjectionWorker.wait`.
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
        raise _copied(progress.error) from progress.error
    return progress.position >= position


def _copied(error: ProjectionError) -> ProjectionError:
    """An equal error; the original would collect the frames of every caller it is raised to."""
    equal = type(error).__new__(type(error), *error.args)
    equal.__dict__.update(error.__dict__)
    return equal
