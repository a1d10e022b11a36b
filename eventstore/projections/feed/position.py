"""The feed's position: found at the end of the event stream, and saved beside it.

The last event of the stream carries its position in the log. Because the stream is bounded, that
event may be deleted one day, so the pair (sequence, position) is also saved in the domain's
configuration bucket. Such a pair stays true: an old one may be useless, but is never wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import msgspec
from msgspec import Meta

from eventstore.client.client import Client
from eventstore.concurrency.chunks import chunked
from eventstore.errors import FeedLost
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import MAX_PAGE, DirectReader
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.headers import Header, position_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.store.foreign import LogFindings
from eventstore.subscribers.publication import PART_OF

_MAX_AT_ONCE = 64

KEY = "feed.position"
"""The key in the configuration bucket: `{"sequence": ..., "position": ...}`."""


class FeedPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The events up to `sequence` of the event stream are the log up to `position`."""

    sequence: Annotated[int, Meta(ge=0)] = 0
    position: Annotated[int, Meta(ge=0)] = 0


class FeedPosition:
    """Finds and saves the feed's position; reads from leaders; `timeout` is seconds an answer.

    `findings` are the messages in the event stream that did not come from the log.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        findings: LogFindings | None = None,
        *,
        timeout: float = 5.0,
    ) -> None:
        self._client = client
        self._stream = subjects.event_stream
        self._all_events = subjects.filter("event")
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)
        self._events = DirectReader(client, self._stream, timeout=timeout)
        self._log = DirectReader(client, subjects.log_stream, timeout=timeout)
        self._findings = findings or LogFindings()
        self._timeout = timeout

    async def find(self, known: FeedPoint | None = None) -> FeedPoint:
        """The point at the end of the event stream; `known` is a certain point, if there is one.

        Messages that did not come from the log are skipped. Raises `FeedLost`, `StreamMissing` and
        `ClientError`.
        """
        facts = {} if known is None else {known.sequence: known.position}
        lost: FeedLost | None = None
        try:
            saved = await self.saved()
        except FeedLost as error:  # irrelevant if the stream has the position
            lost = error
        else:
            if saved is not None:
                facts = {saved.sequence: saved.position} | facts
            facts = facts or {0: 0}  # a stream that never had an event
        info = await stream_info(self._client, self._stream, timeout=self._timeout)
        last = info.state.last_seq
        async with aclosing(self._backwards(last)) as messages:
            async for sequence, message in messages:
                # A point may be further: after it there were events that are not published, or a
                # recovery has published earlier ones last.
                own = None if message is None else await self._fed_position(message)
                positions = [each for each in (own, facts.get(sequence)) if each is not None]
                if positions:
                    return FeedPoint(last, max(positions))
                if message is None:
                    break
                reason = "did not come from the log"
                self._findings.note("foreign", sequence, message.subject, reason)
        raise lost or self._lost(last, facts)

    async def _backwards(self, last: int) -> AsyncGenerator[tuple[int, StoredMessage | None], None]:
        """Each sequence from the last down to 0, with its message; None if that is gone.

        The further back, the more at once: whoever writes to the stream meanwhile must not be
        faster than this. What a page lacks, since a replica may lag, the leader is asked for.
        """
        count = 1
        while last >= 0:
            first = max(last - count + 1, 0)
            page = await self._page(first, last) if count > 1 else {}
            for some in chunked(range(last, first - 1, -1), _MAX_AT_ONCE):
                missing = [each for each in some if each not in page]
                found = await asyncio.gather(*map(self._at, missing))
                known = page | dict(zip(missing, found, strict=True))
                for sequence in some:
                    yield sequence, known[sequence]
            last = first - 1
            count = min(4 * count, MAX_PAGE)

    async def _page(self, first: int, last: int) -> dict[int, StoredMessage | None]:
        """What one answer has of these sequences; may lag."""
        messages, _ = await self._events.page(self._all_events, first - 1, last - first + 1)
        return {each.sequence: each for each in messages if each.sequence <= last}

    async def _fed_position(self, message: StoredMessage) -> int | None:
        """The log position of a message that a feed has published; None for somebody else's.

        The log has the same event at that position. Somebody may have republished an old message,
        with all its headers. But the last message of a feed expects the sequence before its own,
        or ends a batch that does.
        """
        headers = message.headers
        expected = headers.get(NatsHeader.EXPECTED_LAST_SEQUENCE) == str(message.sequence - 1)
        position = position_of(headers) if expected or NatsHeader.BATCH_COMMIT in headers else None
        own = headers.get(PART_OF, headers.get(Header.EVENT_ID))
        if not position or own is None:
            return None
        event = await self._log.at(position, leader=True)
        if event is None or event.headers.get(Header.EVENT_ID) != own:
            return None
        chain = headers.get(Header.CHAIN)  # a command that was carried out again has the same ids
        return position if chain in (None, event.headers.get(Header.CHAIN)) else None

    async def save(self, point: FeedPoint) -> None:
        """Save a point beside the stream; raises `ClientError`."""
        await self._bucket.put(KEY, msgspec.json.encode(point))

    async def saved(self) -> FeedPoint | None:
        """The point that was saved last; None for none. Raises `FeedLost` for an invalid one."""
        message = await self._bucket.leader_get(KEY)
        if message is None or not message.payload:  # a deleted key is an empty message
            return None
        try:
            return msgspec.json.decode(message.payload, type=FeedPoint)
        except UNDECODABLE as error:
            name = self._bucket.bucket
            raise FeedLost(
                f"key {KEY} of bucket {name} is invalid: {error}; delete the key, or correct it"
            ) from error

    async def _at(self, sequence: int) -> StoredMessage | None:
        if sequence == 0:
            return None
        message = await self._events.leader_next(self._all_events, sequence - 1)
        return message if message is not None and message.sequence == sequence else None

    def _lost(self, last: int, facts: dict[int, int]) -> FeedLost:
        sequence, position = max(facts.items())
        return FeedLost(
            f"stream {self._stream} ends at sequence {last} and the event there is gone; last "
            f"known is sequence {sequence} at position {position} of the log. Nothing is "
            f'published. Put {{"sequence": {last}, "position": N}} under key {KEY} of bucket '
            f"{self._bucket.bucket} to continue after position N"
        )
