"""The record of the log: what is known of it, kept beside it in the configuration bucket.

`log.seen` is the highest position of the log that any process has noted, with what is there;
`log.diverged` is since when it is known that the log went back, and `log.settled` is up to where in
the event stream a recovery has settled what was published.
"""

from __future__ import annotations

import contextlib

import msgspec

from eventstore.client.client import Client
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.store.log_mark import LogMark

SEEN = "log.seen"
DIVERGED = "log.diverged"
SETTLED = "log.settled"
"""The keys in the configuration bucket."""


class _Seen(msgspec.Struct, frozen=True):
    seen: str
    time: str


class Divergence(msgspec.Struct, frozen=True):
    """What was found, and since when that is known (RFC 3339)."""

    since: str
    problem: str


class LogRecord:
    """Reads and writes the record; methods raise `StreamMissing` and `ClientError`."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket)

    async def read(self) -> LogMark | None:
        """What was noted last; None if nothing is, or nothing that can be read."""
        return _mark(await self._bucket.leader_get(SEEN))

    async def note(self, mark: LogMark) -> None:
        """Note what was seen, unless another process has seen more."""
        stored = await self._bucket.leader_get(SEEN)
        known = _mark(stored)
        if known is None or known.position < mark.position:
            revision = 0 if stored is None else stored.sequence
            await self._bucket.update(SEEN, _encoded(mark), revision)

    async def replace(self, mark: LogMark | None) -> None:
        """Note what the log has now, whatever was noted; and that it fits."""
        await self._bucket.put(SEEN, None if mark is None else _encoded(mark))
        await self.clear()

    async def diverged(self, problem: str) -> Divergence:
        """Note that the log went back, and return since when that is known.

        Best effort: where it cannot be noted, that is now.
        """
        found = Divergence(format_timestamp(utc_now()), problem)
        with contextlib.suppress(ClientError, StreamMissing):
            stored = await self._bucket.leader_get(DIVERGED)
            with contextlib.suppress(*UNDECODABLE):
                if stored is not None and stored.payload:
                    return msgspec.json.decode(stored.payload, type=Divergence)
            await self._bucket.put(DIVERGED, msgspec.json.encode(found))
        return found

    async def settle(self, sequence: int) -> None:
        """Note that what the event stream has up to a sequence is settled by a recovery."""
        await self._bucket.put(SETTLED, msgspec.json.encode(sequence))

    async def settled(self) -> int:
        """Up to which sequence of the event stream a recovery has settled it; 0 for none."""
        stored = await self._bucket.leader_get(SETTLED)
        with contextlib.suppress(*UNDECODABLE):
            if stored is not None and stored.payload:
                return msgspec.json.decode(stored.payload, type=int)
        return 0

    async def clear(self) -> None:
        """Note that the log fits; does nothing if nothing else was noted."""
        stored = await self._bucket.leader_get(DIVERGED)
        if stored is not None and stored.payload:
            await self._bucket.put(DIVERGED, None)


def _encoded(mark: LogMark) -> bytes:
    return msgspec.json.encode(_Seen(str(mark), format_timestamp(utc_now())))


def _mark(stored: StoredMessage | None) -> LogMark | None:
    if stored is None or not stored.payload:  # a deleted key is an empty message
        return None
    try:
        return LogMark.read(msgspec.json.decode(stored.payload, type=_Seen).seen)
    except UNDECODABLE:
        return None
