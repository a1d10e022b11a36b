"""The state cache: the folded aggregates that a worker used last, so that commands need not load.

A stale state is harmless: the append conflicts, and the state is dropped and loaded from scratch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.store.head import Head

Key = tuple[str, str]

_UNIT = 150  # bytes: about the size of an id in a set
_UNKNOWN_SIZE = 10


class CachedState(msgspec.Struct, gc=False):
    """A folded state, the head it was folded up to, and the commands whose events it includes.

    `snapshot` is the version of the last known snapshot, 0 for none; `era` is the cache's when
    folding began.
    """

    state: Any
    head: Head
    commands: CommandDeduplication
    snapshot: int = 0
    era: int = 0


class StateCache:
    """The states used last, bounded by their weight in units of about 150 bytes.

    An aggregate weighs one unit, one for each of its commands, and what its state takes as JSON
    and its filter of commands: 200,000 are about 30 MB.
    """

    def __init__(self, limit: int = 200_000) -> None:
        self._limit = limit
        self.weight = 0
        self.era = 0
        self._states: OrderedDict[Key, tuple[CachedState, int]] = OrderedDict()

    def get(self, key: Key) -> CachedState | None:
        """The state of an aggregate, if it is cached."""
        entry = self._states.get(key)
        if entry is None:
            return None
        self._states.move_to_end(key)
        return entry[0]

    def put(self, key: Key, state: CachedState) -> None:
        """Cache a state, unless it is of an earlier era; evicts those used least recently."""
        if key in self._states:
            self.drop(key)
        if state.era != self.era:
            return
        commands = len(state.commands) + state.commands.filter_size // _UNIT
        weight = 1 + commands + _size(state.state)
        self._states[key] = state, weight
        self.weight += weight
        while self.weight > self._limit:
            _, (_, oldest) = self._states.popitem(last=False)
            self.weight -= oldest

    def drop(self, key: Key) -> None:
        """Drop the state of an aggregate."""
        entry = self._states.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]

    def clear(self) -> None:
        """Drop all, and begin a new era: states being folded now may hold forgotten data."""
        self._states.clear()
        self.weight = 0
        self.era += 1

    def __len__(self) -> int:
        return len(self._states)


def _size(state: object) -> int:
    try:
        return len(msgspec.json.encode(state)) // _UNIT
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        return _UNKNOWN_SIZE
