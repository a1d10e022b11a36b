"""The keyring: a short-lived cache of the data subjects' keys.

A key is cached for at most 30 seconds, and dropped as soon as a tombstone for it is observed. A
disconnected process may have missed one, so all keys are dropped after a reconnect.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from eventstore.client.client import Client
from eventstore.concurrency.batching import own_task
from eventstore.messages.encryption import NO_KEYS, PERSONAL, DataKey, DestroyedKey, Keys, refs_in
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.personal import ref_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe
from eventstore.parking.erasure import ErasureReport, erase_copies
from eventstore.store.key_bucket import KeyBucket, KeyEntry

_MAX_CONCURRENCY = 64

_logger = make_log_records_safe(logging.getLogger(__name__))

_Get = Callable[[str], Awaitable[DataKey | DestroyedKey | None]]


class Keyring:
    """The keys of one domain; to be closed with `close`.

    `lifetime` is how many seconds a key is cached, `limit` how many are. All methods raise
    `StreamMissing` and `ClientError`, and `MasterKeyError` if the client does not have the master
    key that a key was wrapped by. It subscribes to nothing until the first key is needed.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        *,
        lifetime: float = 30.0,
        limit: int = 10_000,
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._bucket = KeyBucket(client, subjects)
        self._lifetime = lifetime
        self._limit = limit
        self._cache: OrderedDict[str, tuple[DataKey | DestroyedKey, float]] = OrderedDict()
        self._generation = 0
        self._callbacks: list[Callable[[], None]] = []
        self._stop_watch: Callable[[], Awaitable[None]] | None = None
        self._watch_lock = asyncio.Lock()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENCY)

    async def check(self) -> None:
        """Raise `MasterKeyError` if there is no master key, or not that of the newest key."""
        await self._bucket.check()

    async def close(self) -> None:
        """Clear the cache and end the subscription."""
        if self._stop_watch is not None:
            await self._stop_watch()
        self._cache.clear()

    def on_forgotten(self, callback: Callable[[], None]) -> None:
        """Call back when a subject was forgotten, or may have been while disconnected."""
        self._callbacks.append(callback)

    async def to_open(self, messages: Iterable[Mapping[str, str]]) -> Keys:
        """The keys that messages with these headers are encrypted by, without missing ones."""
        refs = {ref for headers in messages if PERSONAL in headers for ref in refs_in(headers)}
        return await self._all(refs, self._bucket.find) if refs else NO_KEYS

    async def to_seal(self, subjects: Iterable[str]) -> Keys:
        """The keys of these data subjects, created if missing; tombstones for forgotten ones.

        Raises `KeyMissing` if another tool has deleted a key.
        """
        refs = {ref_of(subject) for subject in subjects}
        return await self._all(refs, self._bucket.find_or_create) if refs else NO_KEYS

    async def forget(
        self, subject: str, report: Callable[[ErasureReport], object] | None = None
    ) -> DestroyedKey | None:
        """Destroy a data subject's key irrevocably; None if there is none.

        Parked messages of the subject and texts of outcomes are erased as well (see
        `eventstore.parking.erasure`), for which all parked messages and all outcomes are read;
        `report` is called with the result, otherwise what could not be read is logged. Returns the
        time of the first call, when the server has overwritten the key. Can be repeated, which also
        erases what was parked since.
        """
        ref = ref_of(subject)
        forgotten = await self._bucket.destroy(ref, format_timestamp(utc_now()))
        if forgotten is not None:
            self._apply(ref, forgotten)
        erased = await erase_copies(self._client, self._subjects, subject)
        (report or _log_remaining)(erased)
        return forgotten

    async def _all(self, refs: Iterable[str], get: _Get) -> Keys:
        await own_task()  # of which the requests below make several
        async with self._watch_lock:
            if self._stop_watch is None:
                self._stop_watch = await self._bucket.watch(self._on_change, self._on_reconnect)
        keys = {ref: self._cached(ref) for ref in refs}
        missing = [ref for ref, key in keys.items() if key is None]
        if missing:
            found = await asyncio.gather(*(self._get(ref, get) for ref in missing))
            keys.update(zip(missing, found, strict=True))
        return {ref: key for ref, key in keys.items() if key is not None}

    async def _get(self, ref: str, get: _Get) -> DataKey | DestroyedKey | None:
        generation = self._generation
        async with self._slots:
            key = await get(ref)
        if key is not None and generation == self._generation:  # no tombstone since the request
            self._cache_key(ref, key)
        return key

    def _on_change(self, ref: str, entry: KeyEntry) -> None:
        if not entry.is_key:  # a new or rewrapped key invalidates nothing
            self._apply(ref, entry.tombstone)

    def _apply(self, ref: str, forgotten: DestroyedKey | None) -> None:
        self._generation += 1
        self._cache.pop(ref, None)
        if forgotten is not None:
            self._cache_key(ref, forgotten)
        self._notify()

    def _on_reconnect(self) -> None:
        self._generation += 1
        self._cache.clear()
        self._notify()

    def _notify(self) -> None:
        for callback in self._callbacks:
            callback()

    def _cached(self, ref: str) -> DataKey | DestroyedKey | None:
        key, until = self._cache.get(ref, (None, 0.0))
        if key is None or until < time.monotonic():
            return None
        self._cache.move_to_end(ref)
        return key

    def _cache_key(self, ref: str, key: DataKey | DestroyedKey) -> None:
        self._cache[ref] = key, time.monotonic() + self._lifetime
        self._cache.move_to_end(ref)
        while len(self._cache) > self._limit:
            self._cache.popitem(last=False)


def _log_remaining(erased: ErasureReport) -> None:
    for each in erased.unread:
        _logger.warning(
            "personal data of a forgotten subject may remain in an unreadable message: %s", each
        )
    for name in erased.timers:
        _logger.warning("personal data of a forgotten subject may remain in timer %s", name)
