"""Failures: how often this process has failed to carry out a command that it may be given again."""

from __future__ import annotations

from collections import OrderedDict

from eventstore.jetstream.consumer import Delivery

_MAX_REMEMBERED = 10_000

_Key = tuple[int, int]


class Failures:
    """Counts the failures of each command; of the last 10,000 that have failed."""

    def __init__(self) -> None:
        self._counts: OrderedDict[_Key, int] = OrderedDict()

    def add(self, delivery: Delivery) -> int:
        """Count one more; returns how many that are."""
        key = _key(delivery)
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        if len(self._counts) > _MAX_REMEMBERED:
            self._counts.popitem(last=False)
        return count

    def forget(self, delivery: Delivery) -> None:
        """Forget a command that is done."""
        if self._counts:
            self._counts.pop(_key(delivery), None)


def _key(delivery: Delivery) -> _Key:
    """Sequence and time: a stream that was deleted and recreated counts from 1 again."""
    return delivery.sequence, delivery.time
