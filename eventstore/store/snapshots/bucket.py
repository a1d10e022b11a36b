"""The snapshot bucket: the last snapshot of each aggregate, verified against the log when read.

And all of them, for a recovery from a log that went back.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any, NamedTuple

from eventstore.client.client import Client
from eventstore.decider.decider import Decider
from eventstore.errors import UnusableSnapshot
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.publish import Draft, check_sizes
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.store.head import Head
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat, head_in
from eventstore.store.store import EventStore


class StoredSnapshot(NamedTuple):
    """Where any decider's snapshot is, and the head that it was taken at."""

    key: str
    revision: int
    head: Head


class StoredSnapshots:
    """The snapshots of all aggregates, as far as they can be read; for a recovery.

    Methods raise `StreamMissing` and `ClientError`.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._bucket = KeyValue(client, subjects.snapshot_bucket)

    async def all(self) -> AsyncGenerator[StoredSnapshot, None]:
        """Each of them, oldest first."""
        async with aclosing(self._bucket.entries()) as entries:
            async for entry in entries:
                head = head_in(entry.payload)
                if head is not None:
                    yield StoredSnapshot(self._bucket.key(entry.subject), entry.sequence, head)

    async def remove(self, key: str, revision: int) -> None:
        """Delete one, unless it was replaced since."""
        await self._bucket.update(key, None, revision)


class SnapshotBucket:
    """The snapshots of one decider's aggregates; `timeout` is seconds per request to the bucket.

    Methods raise `UnusableSnapshot`, and `ClientError` or `TopologyError` if the store or the
    bucket cannot be reached.
    """

    def __init__(
        self, client: Client, store: EventStore, decider: Decider[Any], *, timeout: float
    ) -> None:
        self._client = client
        self._store = store
        self._aggregate = decider.aggregate
        self._format = SnapshotFormat(decider)
        self._bucket = KeyValue(client, store.codec.subjects.snapshot_bucket, timeout=timeout)

    async def get(self, aggregate_id: str) -> Snapshot | None:
        """The snapshot of an aggregate, verified against the log; None if there is none."""
        stored = await self._bucket.get(self._key(aggregate_id))
        if stored is None or not stored.payload:  # a deleted key is an empty message
            return None
        return await self._verified(aggregate_id, stored)

    def encode(self, aggregate_id: str, snapshot: Snapshot) -> bytes:
        """A snapshot as it is stored."""
        return self._format.encode(aggregate_id, snapshot)

    async def put(self, aggregate_id: str, version: int, data: bytes) -> bool:
        """Store an encoded snapshot; False if there is one as recent, or another was faster.

        Also raises `EventTooLarge` for a snapshot larger than the server accepts.
        """
        key = self._key(aggregate_id)
        existing = await self._bucket.leader_get(key)
        if existing is not None:
            with suppress(UnusableSnapshot):
                known = await self._verified(aggregate_id, existing)
                if known.head.version >= version:
                    return False
        revision = 0 if existing is None else existing.sequence
        headers = {NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE: str(revision)}
        draft = Draft.of(key, headers, data, f"the snapshot of {aggregate_id}")
        check_sizes([draft], self._client.max_payload)
        return bool(await self._bucket.update(key, data, revision))

    def _key(self, aggregate_id: str) -> str:
        return f"{self._aggregate}.{aggregate_id}"

    async def _verified(self, aggregate_id: str, stored: StoredMessage) -> Snapshot:
        snapshot = self._format.decode(aggregate_id, stored.payload)
        head = snapshot.head
        # To a replica that lags, a recent snapshot looks like one of another log.
        if not (
            await self._store.holds(self._aggregate, aggregate_id, head)
            or await self._store.holds(self._aggregate, aggregate_id, head, leader=True)
        ):
            raise UnusableSnapshot(
                f"its head, version {head.version} at position {head.position}, is not in the log"
            )
        return snapshot
