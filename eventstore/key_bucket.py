"""The key bucket: one key for each data subject, made once, and destroyed for good when forgotten.

A key is made when the first personal data of its subject are recorded, and read from the bucket's
leader. To forget, a tombstone is put after it, and then its message is deleted, which overwrites
its bytes in the server's files (to purge it, or to write over it, leaves them there). The bucket
keeps two messages a key, for the tombstone must not push the key out unerased; where a process
dies in between, forgetting again goes on.

On a replicated bucket a key's bytes stay in the servers' own logs until these are compacted, and
backups hold what they hold.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator

import msgspec

from eventstore.api_answers import Done
from eventstore.client import Client
from eventstore.direct import DirectReader
from eventstore.errors import JetStreamError, KeyMissing, RequestTimeout
from eventstore.publishing import publish_acked
from eventstore.sealing import Forgotten, Key
from eventstore.subjects import Subjects
from eventstore.undecodable import UNDECODABLE

__all__ = ["KeyBucket", "read_entry"]

_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_WRONG_SEQUENCE = (10071, 10164)  # the second where the conflicting write is still in flight
_MOST_TRIES = 10
_FIRST_DELAY = 0.01
_KEY_BYTES = 32


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in the bucket: a key, or when one was destroyed and where it stood."""

    v: int = 1
    key: bytes | None = None
    forgotten: str | None = None
    sequence: int | None = None


class KeyBucket:
    """The keys of one domain's data subjects, by their references (`personal.ref_of`).

    `timeout` is seconds for each answer. All methods raise `StreamMissing` and `ClientError`.
    """

    def __init__(self, client: Client, subjects: Subjects, *, timeout: float = 5.0) -> None:
        self._client = client
        self._stream = f"KV_{subjects.key_bucket}"
        self._reader = DirectReader(client, self._stream, timeout=timeout)
        self._timeout = timeout
        self.prefix = f"$KV.{subjects.key_bucket}."

    async def find(self, ref: str) -> Key | Forgotten | None:
        """The key, or that it was destroyed; None where there is neither."""
        _, entry = await self._last(ref)
        return _meaning(entry)

    async def find_or_make(self, ref: str) -> Key | Forgotten:
        """The key, made if there never was one; whoever makes it at the same time has the same.

        Raises `KeyMissing` where there was one that something else has deleted.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            found = _meaning(entry)
            if found is not None:
                return found
            if sequence:
                raise KeyMissing(f"the key of a data subject ({ref}) was deleted by another tool")
            made = Key(secrets.token_bytes(_KEY_BYTES))
            if await self._put(ref, _Entry(key=made.secret), after=0):
                return made
            await asyncio.sleep(delay)
        raise RequestTimeout(f"the key of a data subject ({ref}) is neither made nor found")

    async def destroy(self, ref: str, time: str) -> Forgotten | None:
        """Overwrite the key, and keep that it was destroyed at `time`; None if there never was one.

        Where that was begun before, it is brought to its end, and the first time stands.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            if not sequence:
                return None
            if entry.forgotten is not None:
                await self._erase(entry.sequence)
                return Forgotten(entry.forgotten)
            if await self._put(ref, _Entry(forgotten=time, sequence=sequence), after=sequence):
                await self._erase(sequence)
                return Forgotten(time)
            await asyncio.sleep(delay)
        raise RequestTimeout(f"the key of a data subject ({ref}) is written by others as well")

    async def _last(self, ref: str) -> tuple[int, _Entry]:
        stored = await self._reader.leader_last(self.prefix + ref)
        return (0, _Entry()) if stored is None else (stored.sequence, _decode(stored.payload))

    async def _put(self, ref: str, entry: _Entry, *, after: int) -> bool:
        """Whether it was stored, because the last one there is the one at `after`."""
        headers = {_EXPECTED: str(after)}
        payload = msgspec.json.encode(entry)
        try:
            await publish_acked(
                *(self._client, self.prefix + ref, payload, headers, self._timeout), self._stream
            )
        except JetStreamError as error:
            if error.err_code not in _WRONG_SEQUENCE:
                raise
            return False
        return True

    async def _erase(self, sequence: int | None) -> None:
        suffix, request = f"STREAM.MSG.DELETE.{self._stream}", {"seq": sequence, "no_erase": False}
        try:
            await self._client.api(suffix, request, timeout=self._timeout, answer=Done)
        except JetStreamError:
            if await self._is_there(sequence):  # the server has one number for all that goes wrong
                raise

    async def _is_there(self, sequence: int | None) -> bool:
        return sequence is None or await self._reader.at(sequence, leader=True) is not None


def read_entry(payload: bytes) -> Key | Forgotten | None:
    """What a message of the bucket says; None where another tool has deleted or garbled a key."""
    return _meaning(_decode(payload))


def _decode(payload: bytes) -> _Entry:
    try:
        return msgspec.json.decode(payload, type=_Entry)
    except UNDECODABLE:  # such a tool leaves an empty message
        return _Entry()


def _meaning(entry: _Entry) -> Key | Forgotten | None:
    if entry.forgotten is not None:
        return Forgotten(entry.forgotten)
    return None if entry.key is None or len(entry.key) != _KEY_BYTES else Key(entry.key)


def _delays() -> Iterator[float]:
    for number in range(_MOST_TRIES):
        yield _FIRST_DELAY * 2**number
