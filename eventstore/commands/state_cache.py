"""The state cache: the folded aggregates that a worker used last, so that commands need not load.

A stale state is harmless: the append conflicts, and the state is dropped and loaded from scratch.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import msgspec

from eventstore.commands.deduplication import CommandDeduplication
from eventstore.commands.object_size import size_of
from eventstore.store.head import Head

Key = tuple[str, str]

_ENTRY_BYTES = 720
"""What an aggregate takes besides its state and its commands: its ids, its head, its entry."""

_MAX_CHANGE = 8
"""A state is measured again when its JSON is an eighth longer or shorter."""

MAX_BYTES = 64 << 20
"""What the states of one cache take, unless it is given another limit."""


class CachedState(msgspec.Struct, gc=False):
    """A folded state, the head it was folded up to, and the commands whose events it includes.

    `snapshot` is the version of the last known snapshot, 0 for none; `era` is the cache's when
    folding began. `measured` is the size of the state in bytes when it was measured, and
    `json_bytes` that of its JSON then.
    """

    state: Any
    head: Head
    commands: CommandDeduplication
    snapshot: int = 0
    era: int = 0
    measured: int = 0
    json_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes in memory, with its entry in a cache; a state is measured when it is first asked.

        Later it counts as having grown as its JSON has, up to an eighth.
        """
        own = _ENTRY_BYTES + self.commands.size
        try:
            length = len(msgspec.json.encode(self.state))
        except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
            return own + size_of(self.state)
        before = self.json_bytes
        if not before or abs(length - before) * _MAX_CHANGE > before:
            self.measured, self.json_bytes = size_of(self.state), length
            return own + self.measured
        return own + self.measured * length // before


class StateCache:
    """The states used last, bounded by the bytes that they take in memory.

    These are measured; what the interpreter or several states share counts for each.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self.size = 0
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
        size = state.size
        self._states[key] = state, size
        self.size += size
        while self.size > self._max_bytes:
            _, (_, oldest) = self._states.popitem(last=False)
            self.size -= oldest

    def drop(self, key: Key) -> None:
        """Drop the state of an aggregate."""
        entry = self._states.pop(key, None)
        if entry is not None:
            self.size -= entry[1]

    def clear(self) -> None:
        """Drop all, and begin a new era: states being folded now may hold forgotten data."""
        self._states.clear()
        self.size = 0
        self.era += 1

    def __len__(self) -> int:
        return len(self._states)
