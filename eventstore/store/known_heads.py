"""Known heads: heads that were acknowledged or verified need no request before an append.

The guard of an append compares positions, and those of another log may match. So all heads are
dropped when the log may have been replaced: when the connection breaks, and when the server
reports that the stream was deleted.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AsyncExitStack

from eventstore.client.client import Client
from eventstore.concurrency.resource import Resource
from eventstore.jetstream.vocabulary import API_PREFIX, STREAM_DELETED
from eventstore.store.head import NOTHING, Head
from eventstore.store.high_water_mark import HighWaterMark

HEAD_BYTES = 640
"""What a remembered head takes, with its subject and its entry."""


class KnownHeads(Resource):
    """The last known heads of one log, at most `limit`; an async context manager.

    `era` counts how often all were dropped: a head found before that is not noted after it. If the
    server's reports do not arrive, because of another API prefix or missing permissions, no heads
    are remembered. The last of them all is noted in the `high_water` mark, whatever the era.
    """

    def __init__(self, client: Client, stream: str, high_water: HighWaterMark, limit: int) -> None:
        self.era = 0
        self._high_water = high_water
        self._client = client
        self._limit = limit
        self._reports = f"{STREAM_DELETED}.{stream}"
        self._reported = client.api_subject("") == f"{API_PREFIX}."
        self._heads: OrderedDict[str, Head] = OrderedDict()

    async def _enter(self, stack: AsyncExitStack) -> None:
        stack.callback(self._client.on_denied(self._denied))
        stack.callback(self._client.on_disconnect(self.forget))
        subscription = await self._client.listen(self._reports, lambda _: self.forget())
        stack.push_async_callback(subscription.unsubscribe)

    def get(self, subject: str) -> Head | None:
        """The last known head of an aggregate."""
        return self._heads.get(subject)

    def note(self, subject: str, head: Head, era: int) -> None:
        """Remember a head that was found in an era, unless that is over."""
        self._high_water.note(head)
        if era != self.era or head == NOTHING or not self._reported:
            return
        self._heads[subject] = head
        self._heads.move_to_end(subject)
        if len(self._heads) > self._limit:
            self._heads.popitem(last=False)

    def forget(self) -> None:
        """Drop all and begin a new era: the log may have been replaced."""
        self._heads.clear()
        self.era += 1
        self._high_water.doubt()

    def _denied(self, subject: str) -> None:
        if subject == self._reports.lower():
            self._reported = False
            self.forget()
