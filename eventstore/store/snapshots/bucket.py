"""The bucket of snapshots: one for an aggregate, believed only as far as the log bears it out."""

from __future__ import annotations

from typing import Any

from eventstore.client.client import Client
from eventstore.decider.decider import Decider
from eventstore.errors import UnusableSnapshot
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.publish import Draft, check_sizes
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat
from eventstore.store.store import EventStore

__all__ = ["SnapshotBucket"]


class SnapshotBucket:
    """The snapshots of one decider's aggregates; `timeout` is seconds for an answer of the bucket.

    Methods raise `UnusableSnapshot`, and what the store and the bucket raise where they cannot be
    asked (`ClientError`, `TopologyError`).
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
        """The snapshot of an aggregate, if there is one; it fits the log."""
        stored = await self._bucket.get(self._key(aggregate_id))
        if stored is None or not stored.payload:  # a deleted key is an empty message
            return None
        return await self._believed(aggregate_id, stored)

    async def put(self, aggregate_id: str, snapshot: Snapshot) -> bool:
        """Keep a snapshot; False where one stands that is as new, or another was faster.

        Raises `EventTooLarge` for one that the server would not take, too.
        """
        key = self._key(aggregate_id)
        data = self._format.encode(aggregate_id, snapshot)
        standing = await self._bucket.leader_get(key)
        if standing is not None and await self._is_as_new(aggregate_id, standing, snapshot):
            return False
        revision = 0 if standing is None else standing.sequence
        headers: dict[str, str] = {NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE: str(revision)}
        draft = Draft(key, headers, data, f"the snapshot of {aggregate_id}")
        check_sizes([draft], self._client.max_payload)
        return bool(await self._bucket.update(key, data, revision))

    def _key(self, aggregate_id: str) -> str:
        return f"{self._aggregate}.{aggregate_id}"

    async def _is_as_new(
        self, aggregate_id: str, standing: StoredMessage, snapshot: Snapshot
    ) -> bool:
        try:
            believed = await self._believed(aggregate_id, standing)
        except UnusableSnapshot:
            return False
        return believed.head.version >= snapshot.head.version

    async def _believed(self, aggregate_id: str, stored: StoredMessage) -> Snapshot:
        snapshot = self._format.decode(aggregate_id, stored.payload)
        head = snapshot.head
        # A replica that lags would make a new one look as if it were of another log.
        if not (
            await self._store.holds(self._aggregate, aggregate_id, head)
            or await self._store.holds(self._aggregate, aggregate_id, head, leader=True)
        ):
            raise UnusableSnapshot(
                f"version {head.version} at position {head.position} is not what the log holds"
            )
        return snapshot
