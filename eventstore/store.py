"""The store: append events and read them back. The whole write protocol is on this page.

An append has one of four answers: recorded; already recorded (a repeat, which is success); a
conflict; or unknown, where the time ran out before it could be found out. What was sent and not
clearly answered is looked for at the aggregate's tail: the event ids, fixed before the first try,
tell our events from others', for ever and not only within the server's duplicate window.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from types import TracebackType

from eventstore.client import Client
from eventstore.codec import Codec
from eventstore.direct import DirectReader, StoredMessage
from eventstore.envelope import Header, Identity, NewEvent, RecordedEvent
from eventstore.errors import (
    AppendUnknown,
    ClientError,
    Conflict,
    ConnectionLost,
    DuplicateId,
    InvalidMessage,
    JetStreamError,
    NoResponders,
    RequestTimeout,
    VersionGap,
)
from eventstore.history import History, Page, read_event
from eventstore.messages import Event
from eventstore.publishing import PubAck, check_sizes, publish
from eventstore.writes import ANY, NO_STREAM, NOTHING, Append, Appended, Expected, Head, Write

__all__ = ["ANY", "NOTHING", "NO_STREAM", "Append", "Appended", "EventStore", "Expected", "Head"]

_WRONG_SEQUENCE = (10071, 10164)  # the second where the conflicting write is still in flight
_DUPLICATE_IN_BATCH = 10201
# A repeat is in process; the check is unavailable; too much is in flight: all pass.
_PASSING = (10158, 10163, 10167, 10210)

_FIRST_DELAY = 0.02
_LONGEST_DELAY = 0.5
_MOST_SILENT_CONFLICTS = 6
_MOST_UNANSWERED = 3


def _now() -> datetime:
    return datetime.now(UTC)


class EventStore:
    """The log of one domain; an async context manager.

    `append_timeout` bounds a whole append with all its retries, `request_timeout` each single
    answer; both are seconds. `clock` gives the time of events that bring none.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        *,
        clock: Callable[[], datetime] = _now,
        append_timeout: float = 15.0,
        request_timeout: float = 5.0,
    ) -> None:
        self.codec = codec
        self._client = client
        self._clock = clock
        self._append_timeout = append_timeout
        self._request_timeout = request_timeout
        self._direct = DirectReader(client, codec.subjects.log_stream, timeout=request_timeout)
        self._history = History(client, codec)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> EventStore:
        await self._stack.enter_async_context(self._direct)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def append(
        self,
        aggregate: str,
        aggregate_id: str,
        events: Event | NewEvent | Sequence[Event | NewEvent],
        *,
        expected: Expected = ANY,
        cause: Identity | None = None,
        actor: str | None = None,
    ) -> Appended:
        """Append events to one aggregate, all or none; see `append_all`."""
        several = events if isinstance(events, Sequence) else [events]
        (appended,) = await self.append_all(
            Append(
                aggregate=aggregate,
                aggregate_id=aggregate_id,
                events=several,
                expected=expected,
                cause=cause,
                actor=actor,
            )
        )
        return appended

    async def append_all(self, *appends: Append) -> list[Appended]:
        """Append to one or several aggregates at once: all events are recorded, or none.

        Sent again with the same event ids, it is recorded once and answered alike, for ever; with
        `ANY`, recognising a repeat costs reading the aggregate.

        Raises `Conflict` (nothing recorded), `AppendUnknown` (may or may not be recorded: send
        it again), `EventTooLarge` or `BatchTooLarge` (nothing sent), `DuplicateId`,
        `InvalidMessage` for what may not be in the log, and `ClientError` where the server could
        not be asked, or refuses.
        """
        now = self._clock()
        writes = [Write(append, self.codec, now) for append in appends]
        if not writes or len({write.subject for write in writes}) < len(writes):
            raise InvalidMessage("an append names at least one aggregate, and each only once")
        try:
            async with asyncio.timeout(self._append_timeout):
                return await self._record(writes)
        except TimeoutError:
            raise AppendUnknown(
                f"no clear answer within {self._append_timeout:g} s for {writes[0].subject}; "
                "send the same append again"
            ) from None

    async def _record(self, writes: list[Write]) -> list[Appended]:
        for write in writes:
            await self._find_base(write)
        rounds = _Rounds(writes)
        while not all(write.result for write in writes):
            drafts = [draft for write in writes for draft in write.drafts()]
            check_sizes(drafts, self._client.max_payload)
            expected = {write.subject: write.base.position for write in writes}
            try:
                ack = await publish(self._client, drafts, expected, self._request_timeout)
            except (JetStreamError, ClientError) as error:
                await self._pause(rounds, error)
            else:
                if not ack.duplicate:
                    return _recorded(writes, [draft.headers for draft in drafts], ack)
                rounds.duplicate = True
            await self._look(writes, rounds)
        return [write.result for write in writes if write.result]

    async def _pause(self, rounds: _Rounds, error: ClientError) -> None:
        """Wait as long as the answer asks for; raise it where a retry cannot help."""
        delay = rounds.delay_after(error)
        if isinstance(error, ConnectionLost):
            await self._client.wait_connected(self._append_timeout)
        elif delay:
            await asyncio.sleep(delay)

    async def _look(self, writes: list[Write], rounds: _Rounds) -> None:
        """Find out from the leader whether our events stand, others' do, or none.

        Asks until there is an answer: what was sent may stand.
        """
        while True:
            try:
                return await self._look_once(writes, rounds)
            except (RequestTimeout, ConnectionLost, NoResponders):
                await asyncio.sleep(_LONGEST_DELAY)
                await self._client.wait_connected(self._append_timeout)

    async def _look_once(self, writes: list[Write], rounds: _Rounds) -> None:
        for write in writes:
            await self._look_for(write, rounds)
        if rounds.duplicate and not any(write.result for write in writes):
            for write in writes:
                await self._scan(write, NOTHING)
        recorded = [write for write in writes if write.result]
        if len(recorded) < len(writes) and (recorded or rounds.duplicate):
            raise DuplicateId(
                f"an event id of the append to {writes[0].subject} is used by another event"
            )

    async def _look_for(self, write: Write, rounds: _Rounds) -> None:
        following = await self._direct.leader_next(write.subject, write.base.position)
        if following is None:
            return
        if write.append.expected is ANY:
            await self._scan(write, write.base)
            rounds.base_moved()
        elif following.headers.get(Header.EVENT_ID) == write.event_ids[0]:
            await self._confirm(write, following)
        else:
            last = await self._direct.leader_last(write.subject)
            raise _conflict(write, None if last is None else Head.of(last))

    async def _confirm(self, write: Write, message: StoredMessage) -> None:
        """Note the write as recorded if its events stand from `message` on, one after another."""
        positions = [message.sequence]
        last: StoredMessage | None = message
        for event_id in write.event_ids[1:]:
            last = await self._direct.leader_next(write.subject, positions[-1])
            if last is None or last.headers.get(Header.EVENT_ID) != event_id:
                raise DuplicateId(f"event id {write.event_ids[0]} stands in another append")
            positions.append(last.sequence)
        write.recorded(Head.of(last or message), positions, duplicate=True)

    async def _find_base(self, write: Write) -> None:
        expected = write.append.expected
        if isinstance(expected, Head):
            write.base = expected
        elif expected is NO_STREAM or expected == 0:
            write.base = NOTHING
        elif isinstance(expected, int):
            await self._find_version(write, expected)
        elif write.may_be_repeat:
            await self._scan(write, NOTHING)
        else:
            write.base = await self._head(write.subject)

    async def _find_version(self, write: Write, version: int) -> None:
        head = await self._head(write.subject)
        if head.version < version:  # a follower may lag
            head = await self._head(write.subject, leader=True)
        if head.version > version:
            await self._scan(write, NOTHING, until=version)
        if not write.result and head.version != version:
            raise _conflict(write, head)
        write.base = head

    async def _scan(self, write: Write, base: Head, *, until: int | None = None) -> None:
        """Look through the history after `base` for our events; the base becomes its end.

        `until` is the version after which they would stand, if at all.
        """
        async with aclosing(self._messages(write.subject, base.position)) as messages:
            async for message in messages:
                if message.headers.get(Header.EVENT_ID) == write.event_ids[0]:
                    return await self._confirm(write, message)
                base = Head.of(message)
                if until is not None and base.version > until:
                    break
        write.base = base
        return None

    async def head(self, aggregate: str, aggregate_id: str, *, leader: bool = False) -> Head:
        """Where an aggregate stands; `NOTHING` if it has no events.

        Without `leader` the answer may lag behind on a replicated stream.
        """
        self.codec.check_aggregate(aggregate)
        return await self._head(self.codec.subjects.log(aggregate, aggregate_id), leader=leader)

    async def _head(self, subject: str, *, leader: bool = False) -> Head:
        get = self._direct.leader_last if leader else self._direct.last
        message = await get(subject)
        return NOTHING if message is None else Head.of(message)

    async def read(
        self, aggregate: str, aggregate_id: str, *, after: int | Head = 0
    ) -> AsyncGenerator[RecordedEvent, None]:
        """One aggregate's events, oldest first, after a version or a known head.

        What is handed out is checked: versions without a gap, types known. May miss the newest
        events on a replicated stream. Raises `VersionGap` or `UnreadableEvent`.
        """
        self.codec.check_aggregate(aggregate)
        subject = self.codec.subjects.log(aggregate, aggregate_id)
        start = after if isinstance(after, Head) else NOTHING
        skip = 0 if isinstance(after, Head) else after
        version = start.version
        async with aclosing(self._messages(subject, start.position)) as messages:
            async for message in messages:
                event = read_event(
                    self.codec, subject, message.headers, message.payload, message.sequence
                )
                version += 1
                if event is None or event.version != version:
                    raise VersionGap(
                        f"{aggregate} {aggregate_id} has no version {version} "
                        f"before position {message.sequence}"
                    )
                if version > skip:
                    yield event

    async def read_all(
        self, *, after: int = 0, live: bool = False, skip_unknown: bool = False
    ) -> AsyncGenerator[RecordedEvent, None]:
        """All events in the order of the log, after a position; see `pages`."""
        async with aclosing(self.pages(after=after, live=live, skip_unknown=skip_unknown)) as pages:
            async for page in pages:
                for event in page.events:
                    yield event

    def pages(
        self,
        *,
        after: int = 0,
        live: bool = False,
        max_events: int = 1000,
        skip_unknown: bool = False,
    ) -> AsyncGenerator[Page, None]:
        """All events in the order of the log, in pages; see `History.pages`."""
        return self._history.pages(
            after=after, live=live, max_events=max_events, skip_unknown=skip_unknown
        )

    async def _messages(self, subject: str, after: int) -> AsyncGenerator[StoredMessage, None]:
        async with aclosing(self._direct.pages(subject, after)) as pages:
            async for page in pages:
                for message in page:
                    yield message


class _Rounds:
    """How often an append was tried, and what may still be tried."""

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes
        self._delay = _FIRST_DELAY
        self._silent_conflicts = 0
        self._unanswered = 0
        self.duplicate = False

    def base_moved(self) -> None:
        """Note that a conflict has been explained: others were faster."""
        self._silent_conflicts = 0

    def delay_after(self, error: ClientError) -> float:
        """Seconds to wait before looking again; raises the error where that cannot help."""
        if isinstance(error, RequestTimeout | ConnectionLost):
            return 0.0
        if isinstance(error, NoResponders):
            self._unanswered += 1
            if self._unanswered < _MOST_UNANSWERED:
                return self._longer()
        if isinstance(error, JetStreamError):
            return self._after_refusal(error)
        raise error

    def _after_refusal(self, error: JetStreamError) -> float:
        if error.err_code == _DUPLICATE_IN_BATCH:
            self.duplicate = True
            return 0.0
        if error.err_code in _PASSING:
            return self._longer()
        if error.err_code in _WRONG_SEQUENCE:
            return self._after_conflict()
        raise error

    def _after_conflict(self) -> float:
        # Usually the tail then shows another's event. Where it does not, again and again, the
        # base is wrong in another way: a head from another log, say.
        self._silent_conflicts += 1
        if self._silent_conflicts > _MOST_SILENT_CONFLICTS:
            raise _conflict(self._writes[0], None)
        return 0.0 if self._silent_conflicts == 1 else self._longer()

    def _longer(self) -> float:
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        return self._delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret


def _recorded(
    writes: Sequence[Write], headers: Sequence[dict[str, str]], ack: PubAck
) -> list[Appended]:
    """Give each write its share of the positions, which a batch has without a gap."""
    position = ack.seq - len(headers)
    results = []
    for write in writes:
        count = len(write.event_ids)
        positions = range(position + 1, position + count + 1)
        last, headers = headers[count - 1], headers[count:]
        position += count
        head = Head(position, write.base.version + count, last[Header.CHAIN], last[Header.EVENT_ID])
        results.append(write.recorded(head, positions, duplicate=False))
    return results


def _conflict(write: Write, found: Head | None) -> Conflict:
    append, expected = write.append, write.append.expected
    version = expected if isinstance(expected, int) else write.base.version
    actual = None if found is None else found.version
    return Conflict(append.aggregate, append.aggregate_id, version, actual)
