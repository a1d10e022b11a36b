"""The feed's lease: which of several feeds may publish, without any writing while nothing happens.

The lease is a record in the configuration bucket, written by compare-and-set when it is taken,
taken over or released. Its holder reads the record again, before it publishes, whenever it was last
read more than half of `seconds` ago. Who takes the lease over from a feed that gets no further then
waits for as many seconds as that one's record says, after which the other has seen that it lost the
lease. So no clocks are compared, and an idle feed neither reads nor writes.
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
from eventstore.undecodable import UNDECODABLE

__all__ = ["FeedLease"]

KEY = "feed.lease"
"""The key in the configuration bucket: `{"holder": ..., "seconds": ...}`."""

_MOST_SECONDS = 60.0  # that a lease is relied on; a record that says more is none


class _Record(msgspec.Struct, frozen=True):
    """Who holds the lease, None for nobody, and for how long it relies on having read that."""

    holder: str | None = None
    seconds: Annotated[float, Meta(ge=0, le=_MOST_SECONDS)] = 0.0


class FeedLease:
    """One feed's view of the lease; `timeout` is seconds for each answer.

    More than a minute of `seconds` counts as a minute.

    All methods raise `StreamMissing` where there is no bucket, and `ClientError`.
    """

    def __init__(
        self, client: Client, subjects: Subjects, *, seconds: float, timeout: float = 5.0
    ) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)
        self._own = new_id()
        self._seconds = min(seconds, _MOST_SECONDS)
        self._sequence = 0
        self._seen = _Record()
        self._certain_until = 0.0
        self._owed = 0.0  # seconds for which the holder before may still publish

    async def held(self) -> bool:
        """Whether this feed holds the lease; takes one that nobody holds."""
        now = asyncio.get_running_loop().time()
        if now < self._certain_until - self._seconds / 2:
            return True
        await self._read()
        if self._seen.holder is None:
            self._owed = 0.0
            await self._write(_Record(self._own, self._seconds))
        if self._seen.holder != self._own:
            return False
        if self._owed:
            await asyncio.sleep(self._owed)
            self._owed = 0.0
            return await self.held()
        self._certain_until = now + self._seconds
        return True

    def doubt(self) -> None:
        """Read the record before anything else is published: somebody else seems to publish."""
        self._certain_until = 0.0

    async def take_over(self) -> None:
        """Take the lease from who was last seen with it, if nothing changed since; see `held`."""
        self._owed = self._seen.seconds  # also where the answer is lost
        if not await self._write(_Record(self._own, self._seconds)):
            self._owed = 0.0

    async def release(self) -> None:
        """Let another feed have it at once; nothing may be published after that."""
        self.doubt()
        if self._seen.holder == self._own:
            await self._write(_Record())

    async def _read(self) -> None:
        message = await self._bucket.leader_get(KEY)
        self._sequence = 0 if message is None else message.sequence
        self._seen = _Record() if message is None else _decoded(message.payload)

    async def _write(self, record: _Record) -> bool:
        """Whether nobody else has written since the record was read."""
        revision = await self._bucket.update(KEY, msgspec.json.encode(record), self._sequence)
        if revision is None:
            return False
        self._sequence, self._seen = revision, record
        return True


def _decoded(payload: bytes) -> _Record:
    """A record; what is none, as a deleted key, is held by nobody."""
    try:
        return msgspec.json.decode(payload, type=_Record)
    except UNDECODABLE:
        return _Record()
