"""Watches whether a feed publishes what is in the log, for subscribers, which wait for it."""

from __future__ import annotations

import asyncio
import logging

from eventstore.client.client import Client
from eventstore.errors import (
    EventStoreError,
    InvalidHeader,
    InvalidMessage,
    InvalidSubject,
    UnknownType,
    UnsupportedSchema,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.text import make_log_records_safe
from eventstore.subscribers.positions import PositionSearch, log_end
from eventstore.subscribers.publication import stored_publication

STALLED_SECONDS = 10.0
"""For how long events may wait for a feed."""

_MAX_PASSED = 100

_logger = make_log_records_safe(logging.getLogger(__name__))


class FeedWatch:
    """Compares the event stream with the log; `stalled` is after how many seconds it is a problem.

    A user who may not read the log cannot know, and has no problem.
    """

    def __init__(self, client: Client, codec: Codec, *, stalled: float = STALLED_SECONDS) -> None:
        self.problem: str | None = None
        self._client = client
        self._codec = codec
        self._search = PositionSearch(client, codec.subjects)
        self._log = DirectReader(client, codec.subjects.log_stream)
        self._passed = 0
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
        end = await log_end(self._client, self._codec.subjects)
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
        """Whether a feed has something to publish after a position of the log."""
        self._passed = max(self._passed, position)
        for _ in range(_MAX_PASSED):
            if self._passed >= end:
                return False
            message = await self._log.leader_next(self._codec.subjects.all_log, self._passed)
            if message is None or self._is_published(message):
                return message is not None
            self._passed = message.sequence
        return False

    def _is_published(self, message: StoredMessage) -> bool:
        """Whether a feed publishes it, now or in newer code.

        Foreign messages, events that are dropped and opaque ones are not published.
        """
        read = message.subject, message.headers, message.payload, message.sequence
        try:
            found = self._codec.recorded(*read)
        except (InvalidSubject, InvalidHeader):
            return False
        except (UnknownType, UnsupportedSchema):
            return True
        except InvalidMessage as error:
            return stored_publication(self._codec.unread(*read, error), self._codec) is not None
        return any(not isinstance(each.data, OpaqueEvent) for each in found)
