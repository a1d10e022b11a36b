"""The key bucket: one key for each data subject, made once, and destroyed for good when forgotten.

A key is made when the first personal data of its subject are recorded, wrapped by a master key
(`eventstore.client.master_keys`) before it is sent, and read from the bucket's leader. Keys of
earlier releases are there as they are; they are wrapped when they are next used to record
something.

To forget, a tombstone is put after it, and then its message is deleted, which overwrites
its bytes in the server's files (to purge it, or to write over it, leaves them there). The same
way a key that is wrapped anew takes the place of its former self. The bucket keeps two messages a
key, for what comes after it must not push the key out unerased; where a process dies in between,
doing it again goes on.

On a replicated bucket a key's bytes stay in the servers' own logs until these are compacted, and
backups hold what they hold.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Literal

import msgspec

from eventstore.client.client import Client
from eventstore.client.master_keys import KeyWrapping, WrappedKey
from eventstore.concurrency.backoff import Backoff
from eventstore.errors import KeyMissing, MasterKeyError, RequestTimeout
from eventstore.jetstream.key_value import KeyValue
from eventstore.messages.encryption import DataKey, Forgotten
from eventstore.messages.subjects import Subjects
from eventstore.undecodable import UNDECODABLE

__all__ = ["Entry", "KeyBucket"]

_MOST_TRIES = 10
_BACKOFF = Backoff(0.01, 5.0)
_KEY_BYTES = 32


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in the bucket: a key, or when one was destroyed.

    `wrapped` is the key, by the master key of the id `master`; `key` is one in clear, of an
    earlier release. `sequence` is where what this takes the place of stood.
    """

    v: int = 1
    key: bytes | None = None
    master: str | None = None
    wrapped: bytes | None = None
    forgotten: str | None = None
    sequence: int | None = None

    @classmethod
    def read(cls, payload: bytes) -> Entry:
        """What a message of the bucket says; nothing where another tool deleted or garbled it."""
        try:
            return _decode(payload)
        except UNDECODABLE:  # such a tool leaves an empty message
            return cls()

    @property
    def is_key(self) -> bool:
        """Whether a key stands here, wrapped or not."""
        return self.forgotten is None and (self.key is not None or self.wrapped is not None)

    @property
    def tombstone(self) -> Forgotten | None:
        """When the key was destroyed, where it was."""
        return None if self.forgotten is None else Forgotten(self.forgotten)


_decode = msgspec.json.Decoder(Entry).decode


class KeyBucket:
    """The keys of one domain's data subjects, by their references (`personal.ref_of`).

    The client's master keys wrap them. `timeout` is seconds for each answer. All methods raise
    `StreamMissing` and `ClientError`; those that return a key `MasterKeyError`, where its master
    key is not known.
    """

    def __init__(self, client: Client, subjects: Subjects, *, timeout: float = 5.0) -> None:
        self._client = client
        self._domain = subjects.domain
        self._bucket = KeyValue(client, subjects.key_bucket, timeout=timeout)

    def wrapping(self) -> KeyWrapping:
        """The client's master keys; raises `MasterKeyError` where it has none."""
        if self._client.key_wrapping is None:
            raise MasterKeyError(
                f"the domain {self._domain} has personal data, and no master key is configured: "
                "make one by `eventstore keys new --output master.keys`, and name the file as "
                "personal.master_key_file or EVENTSTORE_MASTER_KEY_FILE"
            )
        return self._client.key_wrapping

    async def check(self) -> None:
        """Raise `MasterKeyError` where there is no master key, or not that of the newest key."""
        stored = await self._bucket.leader_get("*")
        if stored is not None:
            await self._open(self._bucket.key(stored.subject), Entry.read(stored.payload))
        self.wrapping()

    async def watch(
        self, changed: Callable[[str, Entry], None], missed: Callable[[], None]
    ) -> Callable[[], Awaitable[None]]:
        """Call `changed` with what is written under a reference; see `KeyValue.watch`."""

        def read(ref: str, payload: bytes) -> None:
            changed(ref, Entry.read(payload))

        return await self._bucket.watch(read, missed, keys="*")

    async def find(self, ref: str) -> DataKey | Forgotten | None:
        """The key, or that it was destroyed; None where there is neither."""
        _, entry = await self._last(ref)
        return await self._open(ref, entry)

    async def exists(self, ref: str) -> bool:
        """Whether there is a key, or was one that was destroyed; needs no master key."""
        _, entry = await self._last(ref)
        return entry.is_key or entry.forgotten is not None

    async def find_or_make(self, ref: str) -> DataKey | Forgotten:
        """The key, made if there never was one; whoever makes it at the same time has the same.

        Raises `KeyMissing` where there was one that something else has deleted.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            if entry.tombstone is not None:
                return entry.tombstone
            if entry.key is not None:  # in clear
                await self._wrap_anew(ref, sequence, entry)
                continue
            found = await self._open(ref, entry)
            if found is not None:
                return found
            if sequence:
                raise KeyMissing(f"the key of a data subject ({ref}) was deleted by another tool")
            made = DataKey(secrets.token_bytes(_KEY_BYTES))
            if await self._put(ref, await self._wrapped(ref, made, None), after=0):
                return made
            await asyncio.sleep(delay)
        raise RequestTimeout(f"the key of a data subject ({ref}) is neither made nor found")

    async def rewrap(self, ref: str) -> Literal["rewrapped", "unchanged", "forgotten", "missing"]:
        """Wrap a key by the current master key, and overwrite what it was before.

        Where that was begun before, or the subject's forgetting was, it is brought to its end.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            if entry.sequence is not None:
                await self._bucket.erase(entry.sequence)
            if entry.forgotten is not None:
                return "forgotten"
            if not entry.is_key:
                return "missing"
            if entry.master == self.wrapping().current:
                return "unchanged"
            if await self._wrap_anew(ref, sequence, entry):
                return "rewrapped"
            await asyncio.sleep(delay)
        raise RequestTimeout(f"the key of a data subject ({ref}) is written by others as well")

    async def refs(self) -> AsyncIterator[tuple[str, Entry]]:
        """Everything that stands in the bucket now, oldest first; a key may come twice."""
        async with aclosing(self._bucket.leader_entries("*")) as entries:
            async for stored in entries:
                yield self._bucket.key(stored.subject), Entry.read(stored.payload)

    async def destroy(self, ref: str, time: str) -> Forgotten | None:
        """Overwrite the key, and keep that it was destroyed at `time`; None if there never was one.

        Where that was begun before, it is brought to its end, and the first time stands.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            if not sequence:
                return None
            if entry.sequence is not None:  # else the tombstone would push it out
                await self._bucket.erase(entry.sequence)
            if entry.tombstone is not None:
                return entry.tombstone
            if await self._put(ref, Entry(forgotten=time, sequence=sequence), after=sequence):
                await self._bucket.erase(sequence)
                return Forgotten(time)
            await asyncio.sleep(delay)
        raise RequestTimeout(f"the key of a data subject ({ref}) is written by others as well")

    async def _last(self, ref: str) -> tuple[int, Entry]:
        stored = await self._bucket.leader_get(ref)
        return (0, Entry()) if stored is None else (stored.sequence, Entry.read(stored.payload))

    async def _open(self, ref: str, entry: Entry) -> DataKey | Forgotten | None:
        if entry.tombstone is not None:
            return entry.tombstone
        secret = entry.key
        if entry.wrapped is not None:
            secret = await self._unwrapped(ref, WrappedKey(entry.master or "", entry.wrapped))
        return None if secret is None or len(secret) != _KEY_BYTES else DataKey(secret)

    async def _unwrapped(self, ref: str, wrapped: WrappedKey) -> bytes:
        wrapping = self._client.key_wrapping
        if wrapping is None:
            raise MasterKeyError(
                f"no master key is configured, and {wrapped.master} has wrapped keys of the domain "
                f"{self._domain}: name its file as personal.master_key_file or "
                "EVENTSTORE_MASTER_KEY_FILE"
            )
        return await wrapping.unwrap(wrapped, self._context(ref))

    async def _wrapped(self, ref: str, key: DataKey, sequence: int | None) -> Entry:
        wrapped = await self.wrapping().wrap(key.secret, self._context(ref))
        return Entry(v=2, master=wrapped.master, wrapped=wrapped.data, sequence=sequence)

    async def _wrap_anew(self, ref: str, sequence: int, entry: Entry) -> bool:
        """Whether it was done; not where it does not open, or somebody else wrote meanwhile."""
        key = await self._open(ref, entry)
        if not isinstance(key, DataKey):
            raise KeyMissing(f"the key of a data subject ({ref}) was garbled by another tool")
        if not await self._put(ref, await self._wrapped(ref, key, sequence), after=sequence):
            return False
        await self._bucket.erase(sequence)
        return True

    def _context(self, ref: str) -> bytes:
        return f"{self._domain}\n{ref}".encode()

    async def _put(self, ref: str, entry: Entry, *, after: int) -> bool:
        """Whether it was stored, because the last one there is the one at `after`."""
        return bool(await self._bucket.update(ref, msgspec.json.encode(entry), after))


def _delays() -> Iterator[float]:
    for number in range(_MOST_TRIES):
        yield _BACKOFF.delay(number + 1)
