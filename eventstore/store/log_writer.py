"""The log writer: sends prepared events once, each aggregate guarded by its base.

An append whose base is known needs nothing else if the first attempt succeeds, as nearly all do.
Everything else, from finding a base to the search after a lost answer, is the appender's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eventstore.client.client import Client
from eventstore.concurrency.batching import own_task
from eventstore.errors import ClientError
from eventstore.jetstream.publish import (
    PUBLICATION_HEADERS,
    Draft,
    PubAck,
    batch_lines,
    check_sizes,
    publish,
    read_publication,
)
from eventstore.store.append import ANY_VERSION, NO_STREAM
from eventstore.store.head import NOTHING, FoundHead, Head
from eventstore.store.id_index import IdIndex
from eventstore.store.known_heads import KnownHeads
from eventstore.store.pending_append import PendingAppend

_MAX_OPEN_BATCHES = 40  # the server takes 50 of a stream


class LogWriter:
    """Sends the events of appends to one log, and notes what is recorded."""

    def __init__(self, client: Client, stream: str, ids: IdIndex, heads: KnownHeads) -> None:
        self._client = client
        self._stream = stream
        self._ids = ids
        self._heads = heads
        self._batches = asyncio.Semaphore(_MAX_OPEN_BATCHES)

    def begin(self, writes: Sequence[PendingAppend]) -> bool:
        """Set the bases of appends that need no request for them; False if one does.

        Also while disconnected, when nothing can be sent.
        """
        if not self._client.is_connected:
            return False
        for write in writes:
            base = None if write.may_be_repeat else self._known_base(write)
            if base is None:
                return False
            write.begin_at(FoundHead(base, base.position))
        return True

    async def attempt(
        self, writes: Sequence[PendingAppend], timeout: float, *, asking: bool = False
    ) -> ClientError | PubAck | None:
        """Send appends that have their bases; None if they are recorded, which is noted.

        Else what was answered instead: an error, after some of which they may be recorded, or the
        ack of a duplicate. For `asking` see `publish`. Raises `EventTooLarge` and `BatchTooLarge`.
        """
        era, client = self._heads.era, self._client
        messages = _drafts(writes)
        check_sizes(messages, client.max_payload, added=PUBLICATION_HEADERS)
        try:
            if len(messages) == 1:
                reply = await client.exchange(messages, timeout=timeout)
                ack = read_publication(messages, reply, self._stream)
            else:
                ack = await self._publish_batch(messages, timeout, asking)
        except ClientError as error:
            return error
        if ack.duplicate:
            return ack
        self._note(writes, ack.seq - len(messages), era)
        return None

    async def _publish_batch(
        self, messages: Sequence[Draft], timeout: float, asking: bool
    ) -> PubAck:
        if self._batches.locked():
            await own_task()
        async with self._batches:
            return await publish(self._client, messages, timeout, self._stream, asking=asking)

    def _note(self, writes: Sequence[PendingAppend], before: int, era: int) -> None:
        """Note the positions: the events follow each other without a gap."""
        last = before
        for write in writes:
            last += len(write.event_ids)
            head = write.recorded_at(last)
            self._ids.recorded(write.subject, write.base, head, write.event_ids)
            self._heads.note(write.subject, head, era)

    def _known_base(self, write: PendingAppend) -> Head | None:
        """The head that the append is to follow, if it is known; a stale one leads to a conflict.

        A head that the caller names must be known: the guard compares positions only.
        """
        expected = write.append.expected
        if expected is NO_STREAM or expected == 0:
            return NOTHING
        known = self._heads.get(write.subject)
        if isinstance(expected, Head):
            return expected if expected in (NOTHING, known) else None
        if known is None or expected not in (*ANY_VERSION, known.version):
            return None
        return known


def _drafts(writes: Sequence[PendingAppend]) -> list[Draft]:
    """The messages of appends that have their bases, as one batch unless it is only one."""
    count = sum([len(write.event_ids) for write in writes])
    if count == 1:
        return writes[0].drafts()
    batch = iter(batch_lines(count))
    return [draft for write in writes for draft in write.drafts(batch)]
