"""Where a history may begin, so that a long one need not be read from its first event.

Snapshots, of which each aggregate has the newest; and states that were folded for earlier
histories, kept in memory at regular distances, so that any version is near to one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from eventstore.decider.decider import Decider
from eventstore.errors import UnusableSnapshot
from eventstore.messages.codec import Codec
from eventstore.store.command_filter import CommandFilter
from eventstore.store.head import NOTHING, Head
from eventstore.store.snapshots import Snapshots
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat

_MAX_STATES = 64
_UNKNOWN = datetime.max.replace(tzinfo=UTC)  # as no time that is asked for is as late

KEPT_EVERY = 1_000
"""A state is kept at versions that this divides, or a multiple of it in long histories."""


class HistoryStart(Struct, frozen=True, eq=False):
    """A state and the head that it was folded up to; `latest` is the latest time of its events."""

    state: Any
    head: Head = NOTHING
    latest: datetime | None = None


class _KeptState(Struct, frozen=True):
    head: Head
    latest: datetime | None
    data: bytes


class _KeptStates(Struct):
    """The states of one aggregate, by version, and how far they are apart."""

    states: dict[int, _KeptState] = {}
    distance: int = KEPT_EVERY

    @property
    def bytes(self) -> int:
        return sum(len(each.data) for each in self.states.values())

    def thin(self) -> None:
        """Drop about half of them."""
        self.distance *= 2
        self.states = {at: each for at, each in self.states.items() if at % self.distance == 0}


class HistoryStarts:
    """Snapshots, if they are given, and kept states of at most `max_bytes`.

    States are kept as snapshots are, and never of aggregates with personal data in their events.
    Those of the aggregates that were asked for last are kept.
    """

    def __init__(
        self, snapshots: Snapshots | None = None, *, max_bytes: int = 32 * 1024 * 1024
    ) -> None:
        self._snapshots = snapshots
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, str], _KeptStates] = OrderedDict()

    def keep(
        self, codec: Codec, decider: Decider[Any], aggregate_id: str, reached: HistoryStart
    ) -> None:
        """Keep a state, if its version is one at which that is done, and it can be encoded."""
        key, head = (decider.aggregate, aggregate_id), reached.head
        kept = self._kept.get(key) or _KeptStates()
        is_due = head.version % kept.distance == 0 and head.version not in kept.states
        if not is_due or codec.has_personal(decider.aggregate):
            return
        snapshot = Snapshot(reached.state, head, CommandFilter.empty())
        try:
            data = SnapshotFormat(decider).encode(aggregate_id, snapshot)
        except UnusableSnapshot:
            return
        kept.states[head.version] = _KeptState(head, reached.latest, data)
        if len(kept.states) > _MAX_STATES:
            kept.thin()
        self._kept[key] = kept
        self._kept.move_to_end(key)
        self._shrink()

    def nearest(
        self, decider: Decider[Any], aggregate_id: str, at: int | datetime
    ) -> HistoryStart | None:
        """The last kept state up to a version or a time; None if there is none."""
        key = decider.aggregate, aggregate_id
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        fitting = [each for each in self._kept[key].states.values() if _is_within(each, at)]
        if not fitting:
            return None
        found = max(fitting, key=lambda each: each.head.version)
        snapshot = SnapshotFormat(decider).decode(aggregate_id, found.data)
        return HistoryStart(snapshot.state, found.head, found.latest)

    async def snapshot(self, decider: Decider[Any], aggregate_id: str) -> HistoryStart | None:
        """The snapshot, verified against the log; None if there is none."""
        if self._snapshots is None:
            return None
        found = await self._snapshots.load(decider, aggregate_id)
        return None if found is None else HistoryStart(found.state, found.head, _UNKNOWN)

    def forget(self, aggregate: str, aggregate_id: str) -> None:
        """Drop the kept states of an aggregate, as those of another log."""
        self._kept.pop((aggregate, aggregate_id), None)

    def _shrink(self) -> None:
        """Drop states of other aggregates, and then some of the last one, to fit `max_bytes`."""
        for oldest in self._too_many():
            if len(self._kept) > 1:
                self._kept.popitem(last=False)
            else:
                oldest.thin()

    def _too_many(self) -> Iterator[_KeptStates]:
        while sum(each.bytes for each in self._kept.values()) > self._max_bytes:
            yield next(iter(self._kept.values()))


def _is_within(kept: _KeptState, at: int | datetime) -> bool:
    if isinstance(at, int):
        return kept.head.version <= at
    return kept.latest is not None and kept.latest <= at
