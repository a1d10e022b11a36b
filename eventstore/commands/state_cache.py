"""Kept states: the folded aggregates a worker used last, so that not every command loads one.

A stale one is harmless: the append conflicts, and the state is dropped and loaded afresh.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.store.head import Head

__all__ = ["CachedState", "StateCache"]

Key = tuple[str, str]

_UNIT = 150  # bytes: about what an id and its place in a set take
_OF_UNKNOWN_SIZE = 10


class CachedState(msgspec.Struct):
    """A folded state, the head it was folded up to, and the commands whose events it holds.

    `snapshot` is the version of the last snapshot that is known of, 0 for none; `era` is that of
    the kept states when it began to be folded.
    """

    state: Any
    head: Head
    commands: CommandDeduplication
    snapshot: int = 0
    era: int = 0


class StateCache:
    """The states used last, bounded by their weight: some 150 bytes are one unit.

    An aggregate weighs one unit, one for each of its commands, and what its state takes as JSON
    and its filter of commands: 200,000 are about 30 MB.
    """

    def __init__(self, limit: int = 200_000) -> None:
        self._limit = limit
        self._weight = 0
        self.era = 0
        self._kept: OrderedDict[Key, tuple[CachedState, int]] = OrderedDict()

    @property
    def weight(self) -> int:
        """What all that is kept weighs; never more than the limit."""
        return self._weight

    def get(self, key: Key) -> CachedState | None:
        """The state of an aggregate, if it is kept."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        self._kept.move_to_end(key)
        return entry[0]

    def put(self, key: Key, kept: CachedState) -> None:
        """Keep a state, unless it is of an era gone by; those not used for longest make room."""
        self.drop(key)
        if kept.era != self.era:
            return
        weight = _weight_of(kept)
        self._kept[key] = kept, weight
        self._weight += weight
        while self._weight > self._limit:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._weight -= oldest

    def drop(self, key: Key) -> None:
        """Forget the state of an aggregate."""
        entry = self._kept.pop(key, None)
        if entry is not None:
            self._weight -= entry[1]

    def clear(self) -> None:
        """Forget all, and begin a new era: what is being folded now may hold what is forgotten."""
        self._kept.clear()
        self._weight = 0
        self.era += 1

    def __len__(self) -> int:
        return len(self._kept)


def _weight_of(kept: CachedState) -> int:
    commands = len(kept.commands) + kept.commands.filter_size // _UNIT
    return 1 + commands + _size(kept.state)


def _size(state: object) -> int:
    try:
        return len(msgspec.json.encode(state)) // _UNIT
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return _OF_UNKNOWN_SIZE
