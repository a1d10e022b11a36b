"""The key bucket: one encryption key for each data subject, destroyed when it is forgotten.

A key is created when the first personal data of its subject are recorded, wrapped by a master key
(`eventstore.client.master_keys`) before it is sent, and read from the bucket's leader. Keys of
earlier releases are stored unwrapped; they are wrapped when they are next used to record something.

To forget a subject, a tombstone is written after its key, and then the key's message is deleted,
which overwrites its bytes in the server's files (a purge or an overwrite leaves them there). A
rewrapped key replaces the former one in the same way. The bucket retains two messages a key,
because the second must not evict the first before that is erased; if a process dies in between,
the next attempt completes it.

On a replicated bucket a key's bytes remain in the servers' Raft logs until these are compacted, and
in backups.
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
from eventstore.messages.encryption import DataKey, DestroyedKey
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE

_MAX_TRIES = 10
_BACKOFF = Backoff(0.01, 5.0)
_KEY_BYTES = 32


class KeyEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key, or the tombstone of one.

    `wrapped` is the key, encrypted by the master key with the id `master`; `key` is an unwrapped
    one, of an earlier release. `sequence` is that of the message that this one replaces.
    """

    v: int = 1
    key: bytes | None = None
    master: str | None = None
    wrapped: bytes | None = None
    forgotten: str | None = None
    sequence: int | None = None

    @classmethod
    def read(cls, payload: bytes) -> KeyEntry:
        """Decode a message of the bucket; an empty entry if another tool deleted or garbled it."""
        try:
            return _decode(payload)
        except UNDECODABLE:  # a delete leaves an empty message
            return cls()

    @property
    def is_key(self) -> bool:
        """Whether this is a key, wrapped or not."""
        return self.forgotten is None and (self.key is not None or self.wrapped is not None)

    @property
    def tombstone(self) -> DestroyedKey | None:
        """When the key was destroyed; None if it was not."""
        return None if self.forgotten is None else DestroyedKey(self.forgotten)


_decode = msgspec.json.Decoder(KeyEntry).decode


class KeyBucket:
    """The keys of one domain's data subjects, by their references (`personal.ref_of`).

    The client's master keys wrap them. All methods raise `StreamMissing` and `ClientError`; those
    that return a key raise `MasterKeyError` if its master key is not configured.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._domain = subjects.domain
        self._bucket = KeyValue(client, subjects.key_bucket)

    def wrapping(self) -> KeyWrapping:
        """The client's master keys; raises `MasterKeyError` if it has none."""
        if self._client.key_wrapping is None:
            raise MasterKeyError(
                f"the domain {self._domain} has personal data, and no master key is configured: "
                "make one by `eventstore keys new --output master.keys`, and name the file as "
                "personal.master_key_file or EVENTSTORE_MASTER_KEY_FILE"
            )
        return self._client.key_wrapping

    async def check(self) -> None:
        """Raise `MasterKeyError` if there is no master key, or not that of the newest key."""
        stored = await self._bucket.leader_get("*")
        if stored is not None:
            await self._open(self._bucket.key(stored.subject), KeyEntry.read(stored.payload))
        self.wrapping()

    async def watch(
        self, changed: Callable[[str, KeyEntry], None], missed: Callable[[], None]
    ) -> Callable[[], Awaitable[None]]:
        """Call `changed` with what is written under a reference; see `KeyValue.watch`."""

        def read(ref: str, payload: bytes) -> None:
            changed(ref, KeyEntry.read(payload))

        return await self._bucket.watch(read, missed, keys="*")

    async def find(self, ref: str) -> DataKey | DestroyedKey | None:
        """The key or its tombstone; None if there is neither."""
        _, entry = await self._last(ref)
        return await self._open(ref, entry)

    async def exists(self, ref: str) -> bool:
        """Whether there is a key or a tombstone; needs no master key."""
        _, entry = await self._last(ref)
        return entry.is_key or entry.forgotten is not None

    async def find_or_create(self, ref: str) -> DataKey | DestroyedKey:
        """The key, created if there never was one; concurrent callers get the same key.

        Raises `KeyMissing` if another tool has deleted it.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            if entry.tombstone is not None:
                return entry.tombstone
            if entry.key is not None:  # not wrapped
                await self._rewrap(ref, sequence, entry)
                continue
            found = await self._open(ref, entry)
            if found is not None:
                return found
            if sequence:
                raise KeyMissing(
                    f"the key of a data subject ({ref}) was deleted by another tool: restore "
                    f"{self._bucket.bucket} from a backup"
                )
            created = DataKey(secrets.token_bytes(_KEY_BYTES))
            if await self._put(ref, await self._wrap(ref, created, None), after=0):
                return created
            await asyncio.sleep(delay)
        raise RequestTimeout(
            f"the key of a data subject ({ref}) is neither created nor found; try again"
        )

    async def rewrap(self, ref: str) -> Literal["rewrapped", "unchanged", "forgotten", "missing"]:
        """Wrap a key by the current master key, and erase its former message.

        Completes a rewrap or a destruction that was interrupted.
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
            if await self._rewrap(ref, sequence, entry):
                return "rewrapped"
            await asyncio.sleep(delay)
        raise RequestTimeout(
            f"the key of a data subject ({ref}) is written by others as well; try again"
        )

    async def refs(self) -> AsyncIterator[tuple[str, KeyEntry]]:
        """All entries by reference, oldest first; a reference may occur twice."""
        async with aclosing(self._bucket.leader_entries("*")) as entries:
            async for stored in entries:
                yield self._bucket.key(stored.subject), KeyEntry.read(stored.payload)

    async def destroy(self, ref: str, time: str) -> DestroyedKey | None:
        """Replace the key by a tombstone of `time`, and erase it; None if there never was one.

        Completes a destruction that was interrupted; the time of the first one remains.
        """
        for delay in _delays():
            sequence, entry = await self._last(ref)
            if not sequence:
                return None
            if entry.sequence is not None:  # otherwise the tombstone would evict it
                await self._bucket.erase(entry.sequence)
            if entry.tombstone is not None:
                return entry.tombstone
            if await self._put(ref, KeyEntry(forgotten=time, sequence=sequence), after=sequence):
                await self._bucket.erase(sequence)
                return DestroyedKey(time)
            await asyncio.sleep(delay)
        raise RequestTimeout(
            f"the key of a data subject ({ref}) is written by others as well; try again"
        )

    async def _last(self, ref: str) -> tuple[int, KeyEntry]:
        stored = await self._bucket.leader_get(ref)
        return (
            (0, KeyEntry()) if stored is None else (stored.sequence, KeyEntry.read(stored.payload))
        )

    async def _open(self, ref: str, entry: KeyEntry) -> DataKey | DestroyedKey | None:
        if entry.tombstone is not None:
            return entry.tombstone
        secret = entry.key
        if entry.wrapped is not None:
            wrapping, master = self._client.key_wrapping, entry.master or ""
            if wrapping is None:
                raise MasterKeyError(
                    f"no master key is configured, and {master} has wrapped keys of the domain "
                    f"{self._domain}: name its file as personal.master_key_file or "
                    "EVENTSTORE_MASTER_KEY_FILE"
                )
            secret = await wrapping.unwrap(WrappedKey(master, entry.wrapped), self._context(ref))
        return None if secret is None or len(secret) != _KEY_BYTES else DataKey(secret)

    async def _wrap(self, ref: str, key: DataKey, sequence: int | None) -> KeyEntry:
        wrapped = await self.wrapping().wrap(key.secret, self._context(ref))
        return KeyEntry(v=2, master=wrapped.master, wrapped=wrapped.data, sequence=sequence)

    async def _rewrap(self, ref: str, sequence: int, entry: KeyEntry) -> bool:
        """Whether it was rewrapped; False if another writer was faster."""
        key = await self._open(ref, entry)
        if not isinstance(key, DataKey):
            raise KeyMissing(
                f"the key of a data subject ({ref}) was overwritten by another tool: restore "
                "its bucket from a backup"
            )
        if not await self._put(ref, await self._wrap(ref, key, sequence), after=sequence):
            return False
        await self._bucket.erase(sequence)
        return True

    def _context(self, ref: str) -> bytes:
        return f"{self._domain}\n{ref}".encode()

    async def _put(self, ref: str, entry: KeyEntry, *, after: int) -> bool:
        """Whether it was stored: only if the reference's last message is the one at `after`."""
        return bool(await self._bucket.update(ref, msgspec.json.encode(entry), after))


def _delays() -> Iterator[float]:
    return map(_BACKOFF.delay, range(1, _MAX_TRIES + 1))
