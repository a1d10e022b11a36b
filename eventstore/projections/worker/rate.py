"""Rate: how many events a second, lately."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

__all__ = ["Rate"]

_SHORTEST = 0.1


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
