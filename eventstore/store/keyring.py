"""The keyring: the keys of data subjects that a process has at hand, and forgets quickly.

A key is used for at most 30 seconds before it is asked for again, and dropped at once when it is
heard that its subject was forgotten; what was heard may be lost with the connection, so after a
reconnect all are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from eventstore.client.client import Client
from eventstore.messages.encryption import NO_KEYS, PERSONAL, DataKey, Forgotten, Keys, refs_in
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.personal import ref_of
from eventstore.messages.subjects import Subjects
from eventstore.parking.erasing import ErasureReport, erase_copies
from eventstore.store.key_bucket import Entry, KeyBucket
from eventstore.text import make_log_records_safe

__all__ = ["Keyring"]

_AT_ONCE = 64

_logger = make_log_records_safe(logging.getLogger(__name__))

_Get = Callable[[str], Awaitable[DataKey | Forgotten | None]]


class Keyring:
    """The keys of one domain; to be closed with `close`.

    `lifetime` is how many seconds a key is used before it is asked for again, `limit` how many are
    kept, `timeout` seconds for each answer. All methods raise `StreamMissing` and `ClientError`,
    and `MasterKeyError` where the client does not have the master key that a key was wrapped by.
    It costs nothing, not even a subscription, until the first key is needed.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        *,
        lifetime: float = 30.0,
        limit: int = 10_000,
        timeout: float = 5.0,
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._timeout = timeout
        self._bucket = KeyBucket(client, subjects, timeout=timeout)
        self._lifetime = lifetime
        self._limit = limit
        self._kept: OrderedDict[str, tuple[DataKey | Forgotten, float]] = OrderedDict()
        self._era = 0
        self._callbacks: list[Callable[[], None]] = []
        self._stop_watch: Callable[[], Awaitable[None]] | None = None
        self._beginning = asyncio.Lock()
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def check(self) -> None:
        """Raise `MasterKeyError` where there is no master key, or not that of the newest key."""
        await self._bucket.check()

    async def close(self) -> None:
        """Keep nothing, and hear of nothing any more."""
        if self._stop_watch is not None:
            await self._stop_watch()
        self._kept.clear()

    def on_forgotten(self, callback: Callable[[], None]) -> None:
        """Call back when a subject was forgotten, or may have been while nothing was heard."""
        self._callbacks.append(callback)

    async def to_open(self, messages: Iterable[Mapping[str, str] | None]) -> Keys:
        """The keys for messages with these headers; one that is nowhere is not among them."""
        refs: set[str] = set()
        for headers in messages:
            if headers and PERSONAL in headers:
                refs |= refs_in(headers)
        return await self._all(refs, self._bucket.find) if refs else NO_KEYS

    async def to_seal(self, subjects: Iterable[str]) -> Keys:
        """The keys of these data subjects, made where there are none; or that one is forgotten.

        Raises `KeyMissing` where there was a key that something else has deleted.
        """
        refs = {ref_of(subject) for subject in subjects}
        return await self._all(refs, self._bucket.find_or_make) if refs else NO_KEYS

    async def forget(
        self, subject: str, report: Callable[[ErasureReport], object] | None = None
    ) -> Forgotten | None:
        """Destroy a data subject's key for good; None where there is none.

        What is parked of the subject is erased as well, and the texts of outcomes (see
        `eventstore.parking.erasing`), for which everything parked and all outcomes are read;
        `report` is called with that, else what could not be read is logged. Returns when the server
        has overwritten the key, with the time it was first done; to do it again makes sure of that,
        and erases what was parked since.
        """
        forgotten = await self._destroy(subject)
        erased = await erase_copies(self._client, self._subjects, subject, timeout=self._timeout)
        (report or _log_unread)(erased)
        return forgotten

    async def _destroy(self, subject: str) -> Forgotten | None:
        ref = ref_of(subject)
        forgotten = await self._bucket.destroy(ref, format_timestamp(utc_now()))
        if forgotten is not None:
            self._learn(ref, forgotten)
        return forgotten

    async def _all(self, refs: Iterable[str], get: _Get) -> Keys:
        await self._listen()
        keys = {ref: self._cached(ref) for ref in refs}
        missing = [ref for ref, key in keys.items() if key is None]
        if missing:
            found = await asyncio.gather(*(self._get(ref, get) for ref in missing))
            keys.update(zip(missing, found, strict=True))
        return {ref: key for ref, key in keys.items() if key is not None}

    async def _get(self, ref: str, get: _Get) -> DataKey | Forgotten | None:
        era = self._era
        async with self._free:
            key = await get(ref)
        if key is not None and era == self._era:  # nothing was heard since it was asked for
            self._keep(ref, key)
        return key

    async def _listen(self) -> None:
        async with self._beginning:
            if self._stop_watch is None:
                self._stop_watch = await self._bucket.watch(self._heard, self._missed)

    def _heard(self, ref: str, entry: Entry) -> None:
        if not entry.is_key:  # that one was made, or wrapped anew, is no news
            self._learn(ref, entry.tombstone)

    def _learn(self, ref: str, forgotten: Forgotten | None) -> None:
        self._era += 1
        self._kept.pop(ref, None)
        if forgotten is not None:
            self._keep(ref, forgotten)
        self._call_back()

    def _missed(self) -> None:
        self._era += 1
        self._kept.clear()
        self._call_back()

    def _call_back(self) -> None:
        for callback in self._callbacks:
            callback()

    def _cached(self, ref: str) -> DataKey | Forgotten | None:
        key, until = self._kept.get(ref, (None, 0.0))
        if key is None or until < time.monotonic():
            return None
        self._kept.move_to_end(ref)
        return key

    def _keep(self, ref: str, key: DataKey | Forgotten) -> None:
        self._kept[ref] = key, time.monotonic() + self._lifetime
        self._kept.move_to_end(ref)
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)


def _log_unread(erased: ErasureReport) -> None:
    for each in erased.unread:
        _logger.warning("what was forgotten may still be in what cannot be read: %s", each)
