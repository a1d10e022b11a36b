"""The feed's lease: which of several feeds may publish, without writes while nothing happens.

The lease is a record in the configuration bucket, written by compare-and-set when it is acquired,
taken over or released. Before it publishes, its holder reads the record, if the last read was more
than half of `seconds` ago. A feed that takes the lease over from one without progress then waits
for the seconds in that one's record, after which the other has seen that it lost the lease. So no
clocks are compared, and an idle feed neither reads nor writes.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from msgspec import Meta

from eventstore.client.client import Client
from eventstore.jetstream.key_value import KeyValue
from eventstore.messages.envelope import new_id
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE

KEY = "feed.lease"
"""The key in the configuration bucket: `{"holder": ..., "seconds": ...}`."""

_MAX_SECONDS = 60.0  # that a lease is valid; a record with more is invalid


class _Record(msgspec.Struct, frozen=True):
    """Who holds the lease, None for nobody, and for how many seconds it is valid after a read."""

    holder: str | None = None
    seconds: Annotated[float, Meta(ge=0, le=_MAX_SECONDS)] = 0.0


class FeedLease:
    """One feed's view of the lease; `timeout` is seconds for each answer.

    `seconds` are at most a minute; more count as a minute.

    All methods raise `StreamMissing` if there is no bucket, and `ClientError`.
    """

    def __init__(
        self, client: Client, subjects: Subjects, *, seconds: float, timeout: float = 5.0
    ) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)
        self._own = new_id()
        self._seconds = min(seconds, _MAX_SECONDS)
        self._sequence = 0
        self._record = _Record()
        self._valid_until = 0.0
        self._grace = 0.0  # seconds for which the previous holder may still publish

    async def held(self) -> bool:
        """Whether this feed holds the lease; acquires one that nobody holds."""
        now = asyncio.get_running_loop().time()
        if now < self._valid_until - self._seconds / 2:
            return True
        await self._read()
        if self._record.holder is None:
            self._grace = 0.0
            await self._write(_Record(self._own, self._seconds))
        if self._record.holder != self._own:
            return False
        if self._grace:
            await asyncio.sleep(self._grace)
            self._grace = 0.0
            return await self.held()
        self._valid_until = now + self._seconds
        return True

    def doubt(self) -> None:
        """Have the record read before the next publish, because somebody else seems to publish."""
        self._valid_until = 0.0

    async def take_over(self) -> None:
        """Take the lease from its last known holder, if it has not changed since; see `held`."""
        self._grace = self._record.seconds  # also if the answer is lost
        if not await self._write(_Record(self._own, self._seconds)):
            self._grace = 0.0

    async def release(self) -> None:
        """Release the lease for another feed; nothing may be published after that."""
        self.doubt()
        if self._record.holder == self._own:
            await self._write(_Record())

    async def _read(self) -> None:
        message = await self._bucket.leader_get(KEY)
        self._sequence = 0 if message is None else message.sequence
        try:
            payload = b"{}" if message is None else message.payload
            self._record = msgspec.json.decode(payload, type=_Record)
        except UNDECODABLE:  # such as a deleted key: nobody holds the lease
            self._record = _Record()

    async def _write(self, record: _Record) -> bool:
        """Write, unless somebody else has written since the last read; returns whether it did."""
        revision = await self._bucket.update(KEY, msgspec.json.encode(record), self._sequence)
        if revision is None:
            return False
        self._sequence, self._record = revision, record
        return True
