"""Rate: how many events a second, lately."""

from __future__ import annotations

import time
from collections import deque

__all__ = ["Rate"]

_WINDOW = 5.0
_SHORTEST = 0.1


class Rate:
    """A mean over the last 5 seconds, or over all of them where it is younger."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._counts: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, count: int) -> None:
        """So many events, now."""
        self._counts.append((time.monotonic(), count))
        self._sum += count

    @property
    def value(self) -> float:
        """Events a second; 0 where there were none for as long as the window."""
        now = time.monotonic()
        while self._counts and self._counts[0][0] < now - _WINDOW:
            self._sum -= self._counts.popleft()[1]
        return self._sum / min(_WINDOW, max(now - self._began, _SHORTEST))
