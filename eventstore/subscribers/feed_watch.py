"""Watches whether a feed publishes what is in the log, for subscribers, which wait for it."""

from __future__ import annotations

import asyncio
import logging

from eventstore.client.client import Client
from eventstore.errors import EventStoreError
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.headers import Header
from eventstore.messages.subjects import Subjects
from eventstore.subscribers.positions import PositionSearch, log_end
from eventstore.text import make_log_records_safe

STALLED_SECONDS = 10.0
"""For how long events may wait for a feed."""

_MAX_FOREIGN = 100

_logger = make_log_records_safe(logging.getLogger(__name__))


class FeedWatch:
    """Compares the event stream with the log; `stalled` is after how many seconds it is a problem.

    A user who may not read the log cannot know, and has no problem.
    """

    def __init__(
        self, client: Client, subjects: Subjects, *, stalled: float = STALLED_SECONDS
    ) -> None:
        self.problem: str | None = None
        self._client = client
        self._subjects = subjects
        self._search = PositionSearch(client, subjects)
        self._log = DirectReader(client, subjects.log_stream)
        self._stalled = stalled
        self._position = 0
        self._since: float | None = None

    async def run(self, who: str) -> None:
        """Look regularly until it is cancelled; logs for `who` when a problem begins."""
        may_read = True
        while may_read:
            before = self.problem
            try:
                may_read = await self.look()
            except EventStoreError:
                self._since = None  # whatever it is, others report it
            if self.problem is not None and before is None:
                _logger.warning("%s: %s", who, self.problem)
            await asyncio.sleep(self._stalled / 2)

    async def look(self) -> bool:
        """Compare once; False if this user may not. Raises `StreamMissing` and `ClientError`."""
        end = await log_end(self._client, self._subjects)
        if end is None:
            return False
        now = asyncio.get_running_loop().time()
        position = await self._search.last()
        if not await self._is_pending(position, end):
            self._since = self.problem = None
        elif self._since is None or position != self._position:
            self._since, self._position, self.problem = now, position, None
        elif now - self._since >= self._stalled:
            self.problem = (
                f"no feed publishes: the events after position {position} of the log have been "
                f"waiting for {now - self._since:.0f} s; run a feed beside the subscribers"
            )
        return True

    async def _is_pending(self, position: int, end: int) -> bool:
        """Whether the log has an event after a position; foreign messages are none."""
        for _ in range(_MAX_FOREIGN):
            if position >= end:
                return False
            message = await self._log.leader_next(self._subjects.all_log, position)
            if message is None or Header.EVENT_TYPE in message.headers:
                return message is not None
            position = message.sequence
        return False
