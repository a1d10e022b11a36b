"""The history that is left: what the log has now at any position, read in pages."""

from __future__ import annotations

from eventstore.client.client import Client
from eventstore.jetstream.api import find_stream
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.subjects import Subjects
from eventstore.store.log_mark import LogMark


class RemainingHistory:
    """What the log has now, up to `end`; a log that `is_missing` has nothing.

    Positions that are asked for in about their order take a request for each 256 of them.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self.is_missing = False
        self.identity = ""
        self.end = 0
        self._client = client
        self._log = DirectReader(client, subjects.log_stream)
        self._page: dict[int, StoredMessage] = {}

    async def open(self) -> None:
        """Find where the log ends; raises `ClientError`."""
        info = await find_stream(self._client, self._log.stream)
        self.is_missing = info is None
        if info is not None:
            self.identity = f"{info.first_created} {self._log.stream}"[:128]
            self.end = info.state.last_seq

    async def at(self, position: int) -> StoredMessage | None:
        """The message at a position; None for none. Raises `ClientError`."""
        if not 0 < position <= self.end:
            return None
        if position not in self._page:
            messages, _ = await self._log.page(">", position - 1)
            self._page = {each.sequence: each for each in messages}
        found = self._page.get(position)
        return found or await self._log.at(position, leader=True)  # a follower may lag

    async def has(self, mark: LogMark) -> bool:
        """Whether the log has what a mark says."""
        if not mark.position:
            return True
        found = await self.at(mark.position)
        return found is not None and mark.fits(found)
