"""Snapshots: folded states in a key-value bucket, so that a load reads only the events after them.

They are an optimisation, never a source of truth. A snapshot is used only if the log contains the
event it was taken at; if anything is wrong with it or with the bucket, the log is read from its
beginning instead. Snapshots are written in the background, and a lost write costs only time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any, Literal

from eventstore.client.client import Client
from eventstore.concurrency.resource import Resource
from eventstore.decider.decider import Decider
from eventstore.errors import ClientError, EventStoreError, TopologyError, UnusableSnapshot
from eventstore.messages.text import make_log_records_safe
from eventstore.store.snapshots.bucket import SnapshotBucket
from eventstore.store.snapshots.format import Snapshot
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_MAX_WRITES = 16
_PAUSE_SECONDS = 10.0
_CLOSE_SECONDS = 2.0

_Result = Literal["used", "missing", "ignored", "unavailable", "written", "outdated", "dropped"]

_logger = make_log_records_safe(logging.getLogger(__name__))


class Snapshots(Resource):
    """The snapshots of a domain's aggregates; an async context manager.

    They are taken of aggregates whose decider has `snapshot_every`, and never of those with
    personal data in their events, which a snapshot would store unencrypted. `timeout` is seconds
    per request to the bucket; after a failure, loads do not use it for 10 seconds. Exiting waits 2
    seconds for the writes in progress, and cancels those that are not done then.
    """

    def __init__(
        self,
        client: Client,
        store: EventStore,
        *,
        timeout: float = 1.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._store = store
        self._timeout = timeout
        self._telemetry = telemetry
        self._buckets: dict[str, SnapshotBucket] = {}
        self._writing: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._paused_until = 0.0
        self._reported: set[tuple[str, str]] = set()

    async def _enter(self, stack: AsyncExitStack) -> None:
        stack.push_async_callback(self._close)

    async def _close(self) -> None:
        await self.drain(_CLOSE_SECONDS)
        unfinished = list(self._writing.values())
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    async def drain(self, timeout: float) -> None:
        """Wait for the writes in progress, at most `timeout` seconds."""
        if self._writing:
            await asyncio.wait(self._writing.values(), timeout=timeout)

    def report_disabled(self, deciders: Iterable[Decider[Any]]) -> None:
        """Log the deciders that ask for snapshots in vain, and why."""
        for decider in deciders:
            if decider.snapshot_every is not None and not self.is_enabled_for(decider):
                _logger.warning(
                    "snapshot_every of %s has no effect: its events have personal data, "
                    "which a snapshot would keep when it is forgotten",
                    decider.aggregate,
                )

    def is_enabled_for(self, decider: Decider[Any]) -> bool:
        """Whether snapshots are taken of this kind of aggregate."""
        is_personal = self._store.codec.has_personal(decider.aggregate)
        return decider.snapshot_every is not None and not is_personal

    def is_due(self, decider: Decider[Any], events: int) -> bool:
        """Whether another snapshot is due after so many events since the last one."""
        every = decider.snapshot_every
        return every is not None and events >= every and self.is_enabled_for(decider)

    async def load(self, decider: Decider[Any], aggregate_id: str) -> Snapshot | None:
        """The snapshot of an aggregate; None if it is missing, late or does not match the log.

        Raises `CorruptLog` if the log itself is corrupt.
        """
        if not self.is_enabled_for(decider):
            return None
        snapshot, result = await self._load(decider, aggregate_id)
        self._count(decider, result)
        return snapshot

    def save_soon(self, decider: Decider[Any], aggregate_id: str, snapshot: Snapshot) -> bool:
        """Begin to write a snapshot; False if it is not written now.

        That is while an earlier one of the same aggregate, or too many others, are being written.
        That it is stored is not guaranteed. It is encoded now: a state that can be changed may be.
        """
        key = decider.aggregate, aggregate_id
        if key in self._writing or len(self._writing) >= _MAX_WRITES:
            return False
        try:
            data = self._bucket(decider).encode(aggregate_id, snapshot)
        except Exception as error:  # commands must not fail by a snapshot
            self._dropped(decider, aggregate_id, error)
            return True
        task = asyncio.create_task(self._save(decider, aggregate_id, snapshot.head.version, data))
        self._writing[key] = task
        task.add_done_callback(lambda _: self._writing.pop(key))
        return True

    async def _load(
        self, decider: Decider[Any], aggregate_id: str
    ) -> tuple[Snapshot | None, _Result]:
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            return None, "unavailable"
        try:
            snapshot = await self._bucket(decider).get(aggregate_id)
        except UnusableSnapshot as error:
            self._report(decider, aggregate_id, "ignored", error)
            return None, "ignored"
        except (ClientError, TopologyError) as error:
            self._paused_until = now + _PAUSE_SECONDS
            self._report(decider, aggregate_id, "not available", error)
            return None, "unavailable"
        return snapshot, "missing" if snapshot is None else "used"

    async def _save(
        self, decider: Decider[Any], aggregate_id: str, version: int, data: bytes
    ) -> None:
        try:
            is_written = await self._bucket(decider).put(aggregate_id, version, data)
        except Exception as error:  # commands must not fail by a snapshot
            self._dropped(decider, aggregate_id, error)
        else:
            self._count(decider, "written" if is_written else "outdated")

    def _dropped(self, decider: Decider[Any], aggregate_id: str, error: Exception) -> None:
        self._report(decider, aggregate_id, "not written", error)
        self._count(decider, "dropped")

    def _bucket(self, decider: Decider[Any]) -> SnapshotBucket:
        known = self._buckets.get(decider.aggregate)
        if known is None:
            known = SnapshotBucket(self._client, self._store, decider, timeout=self._timeout)
            self._buckets[decider.aggregate] = known
        return known

    def _count(self, decider: Decider[Any], result: _Result) -> None:
        self._telemetry.count("snapshots", aggregate=decider.aggregate, result=result)

    def _report(
        self, decider: Decider[Any], aggregate_id: str, state: str, error: Exception
    ) -> None:
        """Log a problem: once as a warning for each kind of aggregate, then at debug level."""
        is_expected = isinstance(error, UnusableSnapshot) and error.is_expected
        is_known = is_expected or (decider.aggregate, state) in self._reported
        if not is_expected:
            self._reported.add((decider.aggregate, state))
        _logger.log(
            logging.DEBUG if is_known else logging.WARNING,
            *("the snapshot of %s %s is %s: %s", decider.aggregate, aggregate_id, state, error),
            exc_info=None if isinstance(error, EventStoreError) else error,
        )
