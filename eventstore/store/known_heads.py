"""Known heads: heads that were acknowledged or verified need no request before an append.

The guard of an append compares positions, and those of another log may match. So all heads are
dropped when the log may have been replaced: when the connection breaks, and when the server
reports that the stream was deleted.
"""

from __future__ import annotations

from collections import OrderedDict
from types import TracebackType

from eventstore.client.client import Client
from eventstore.config import DEFAULT_API_PREFIX
from eventstore.store.head import NOTHING, Head

__all__ = ["KnownHeads"]

_MAX_HEADS = 50_000  # aggregates: about 15 MB


class KnownHeads:
    """The last known head of each aggregate of one log; an async context manager.

    `era` counts how often all were dropped: a head found before that is not noted after it. If the
    server's reports do not arrive, because of another API prefix or missing permissions, no heads
    are remembered.
    """

    def __init__(self, client: Client, stream: str) -> None:
        self.era = 0
        self._client = client
        self._reports = f"$JS.EVENT.ADVISORY.STREAM.DELETED.{stream}"
        self._reported = client.api_subject("") == f"{DEFAULT_API_PREFIX}."
        self._heads: OrderedDict[str, Head] = OrderedDict()

    async def __aenter__(self) -> KnownHeads:
        self._forget_denied = self._client.on_denied(self._denied)
        self._forget_disconnect = self._client.on_disconnect(self.forget)
        self._subscription = await self._client.listen(self._reports, lambda _: self.forget())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget_denied()
        self._forget_disconnect()
        await self._subscription.unsubscribe()

    def get(self, subject: str) -> Head | None:
        """The last known head of an aggregate."""
        return self._heads.get(subject)

    def note(self, subject: str, head: Head, era: int) -> None:
        """Remember a head that was found in an era, unless that is over."""
        if era != self.era or head == NOTHING or not self._reported:
            return
        self._heads[subject] = head
        self._heads.move_to_end(subject)
        if len(self._heads) > _MAX_HEADS:
            self._heads.popitem(last=False)

    def forget(self) -> None:
        """Drop all and begin a new era: the log may have been replaced."""
        self._heads.clear()
        self.era += 1

    def _denied(self, subject: str) -> None:
        if subject == self._reports.lower():
            self._reported = False
            self.forget()
