"""Recording: the whole write protocol, from the expectation to one of four answers.

Recorded; already recorded (a repeat, which is success); a conflict; or unknown, where the time ran
out before it could be found out. What was sent and not clearly answered is looked for at the
aggregate's tail: the event ids, fixed before the first try, tell our events from others', for
ever and not only within the server's duplicate window.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from eventstore.client import Client
from eventstore.direct import DirectReader, StoredMessage
from eventstore.envelope import Header
from eventstore.errors import (
    AppendUnknown,
    ClientError,
    Conflict,
    ConnectionLost,
    DuplicateId,
    JetStreamError,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
)
from eventstore.publishing import Draft, check_sizes, guarded, publish
from eventstore.telemetry import Telemetry
from eventstore.writes import (
    ANY,
    NO_STREAM,
    NOTHING,
    Appended,
    FoundHead,
    Head,
    HeadWalk,
    Write,
    find_head,
)

__all__ = ["Recording"]

_WRONG_SEQUENCE = (10071, 10164)  # the second where the conflicting write is still in flight
_DUPLICATE_IN_BATCH = 10201
# No leader yet; a repeat is in process; the check is unavailable; too much is in flight.
_PASSING = (10008, 10158, 10163, 10167, 10210)
_BATCH_INCOMPLETE = 10176  # the leader changed, or the connection did, in the middle of it

_FOREVER = 86_400.0  # the append as a whole has its own bound
_FIRST_DELAY = 0.02
_LONGEST_DELAY = 0.5
_MOST_SILENT_CONFLICTS = 6
_MOST_UNANSWERED = 25  # about ten seconds: a new leader takes that long
_MOST_INCOMPLETE = 3
_MOST_CLAIMED = 3


class Recording:
    """One append on its way into the log; `timeout` is seconds for each answer."""

    def __init__(
        self,
        client: Client,
        direct: DirectReader,
        writes: Sequence[Write],
        timeout: float,
        telemetry: Telemetry,
    ) -> None:
        self._client = client
        self._direct = direct
        self._writes = writes
        self._timeout = timeout
        self._telemetry = telemetry
        self._tries = 0
        self._retries = _Retries()
        self._unclear = False  # something was sent, and the answer is not known
        self._claimed = False  # the server, or the log, says that an id of ours is used

    async def run(self, timeout: float) -> list[Appended]:
        """Record the writes within `timeout` seconds, all or none.

        Raises `Conflict`, `AppendUnknown` where something was sent and its fate is not known,
        `DuplicateId`, `EventTooLarge`, `BatchTooLarge`, `StreamMissing`, or a `ClientError` where
        nothing was sent, or the server refuses.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._ask(self._find_bases)
                while not all(write.result for write in self._writes):
                    await self._try_once()
        except TimeoutError:
            raise self._out_of_time(timeout) from self._retries.last
        except ClientError as error:
            if self._unclear:
                raise AppendUnknown(f"{self}: {error}; send the same append again") from error
            raise
        return [write.result for write in self._writes if write.result]

    async def _try_once(self) -> None:
        drafts = [draft for write in self._writes for draft in write.drafts()]
        expected = {write.subject: max(write.base.position, write.end) for write in self._writes}
        messages = guarded(drafts, expected)
        check_sizes(messages, self._client.max_payload)
        await self._connected()
        if self._tries:
            self._telemetry.count("retries", operation="append")
        self._tries += 1
        before, self._unclear = self._unclear, True
        try:
            ack = await publish(self._client, messages, self._timeout)
        except (RequestTimeout, ConnectionLost) as error:
            self._retries.last = error  # which `_look` may explain
        except (JetStreamError, NoResponders, PermissionDenied) as error:
            self._unclear = before
            await self._after_refusal(error)
        else:
            self._unclear = before
            if not ack.duplicate:
                return self._recorded(drafts, ack.seq)
            self._claimed = True
        return await self._ask(self._look)

    async def _after_refusal(self, error: ClientError) -> None:
        """Wait as long as the answer asks for; raise it where a retry cannot help."""
        err_code = error.err_code if isinstance(error, JetStreamError) else 0
        if err_code == _DUPLICATE_IN_BATCH:
            self._claimed = True
        elif err_code in _WRONG_SEQUENCE:
            # Usually the tail then shows another's event. Where it does not, again and again,
            # the base is wrong in another way: a head from another log, say.
            if self._retries.silent_conflicts == _MOST_SILENT_CONFLICTS:
                raise _conflict(self._writes[0], None) from error
            await asyncio.sleep(self._retries.delay_after_conflict())
        else:
            await asyncio.sleep(self._retries.delay_after(error))

    def _recorded(self, drafts: Sequence[Draft], last: int) -> None:
        """Give each write its share of the positions, which a batch has without a gap."""
        position = last - len(drafts)
        taken = 0
        for write in self._writes:
            count = len(write.event_ids)
            taken += count
            headers = drafts[taken - 1].headers
            positions = range(position + 1, position + count + 1)
            position += count
            version = write.base.version + count
            head = Head(position, version, headers[Header.CHAIN], headers[Header.EVENT_ID])
            write.recorded(head, positions, duplicate=False)

    async def _ask(self, question: Callable[[], Awaitable[None]]) -> None:
        """Ask until there is an answer: what was sent may stand."""
        while True:
            try:
                await self._connected()
                return await question()
            except (RequestTimeout, ConnectionLost, NoResponders, JetStreamError) as error:
                if self._client.is_closed:
                    raise
                await asyncio.sleep(self._retries.delay_after(error))

    async def _connected(self) -> None:
        if not self._client.is_connected:
            await self._client.wait_connected(_FOREVER)

    async def _look(self) -> None:
        """Find out from the leader whether our events stand, others' do, or none."""
        for write in self._writes:
            await self._look_for(write)
        missing = [write for write in self._writes if not write.result]
        if not missing or (len(missing) == len(self._writes) and not self._claimed):
            return
        for write in missing:
            await self._search(write, NOTHING)
        if not all(write.result for write in missing):
            # What is being stored at this moment is claimed before it can be seen.
            if self._retries.claims == _MOST_CLAIMED:
                raise DuplicateId(f"{self}: an event id is used by another event")
            await asyncio.sleep(self._retries.delay_after_claim())

    async def _look_for(self, write: Write) -> None:
        following = await self._direct.leader_next(
            write.subject, max(write.base.position, write.end)
        )
        if following is None:
            return
        if write.append.expected is ANY:
            write.begin_at(await self._search(write, write.base))
            self._retries.silent_conflicts = 0
        elif write.is_first(following):
            await self._confirm(write, following)
        else:
            await self._pass_over(write)

    async def _pass_over(self, write: Write) -> None:
        """Go on behind foreign messages; raise where an event of somebody else follows the base."""
        walk = HeadWalk()
        async with aclosing(self._direct.messages(write.subject)) as messages:
            async for message in messages:
                follows = walk.head == write.base
                if walk.see(message) and follows and write.is_first(message):
                    await self._confirm(write, message)
                    return
        if walk.head != write.base:
            raise _conflict(write, walk.head)
        write.end = walk.end
        self._retries.silent_conflicts = 0

    async def _confirm(self, write: Write, first: StoredMessage) -> None:
        """Note the write as recorded if its events stand from `first` on, one after another."""
        positions = [first.sequence]
        last = first
        for event_id in write.event_ids[1:]:
            following = await self._direct.leader_next(write.subject, last.sequence)
            if following is None or following.headers.get(Header.EVENT_ID) != event_id:
                self._claimed = True
                return
            last = following
            positions.append(last.sequence)
        write.recorded(Head.of(last), positions, duplicate=True)

    async def _find_bases(self) -> None:
        for write in self._writes:
            await self._find_base(write)

    async def _find_base(self, write: Write) -> None:
        expected = write.append.expected
        if isinstance(expected, Head):
            write.base = expected
        elif expected is NO_STREAM or expected == 0:
            write.base = NOTHING
        elif isinstance(expected, int):
            await self._find_version(write, expected)
        elif write.may_be_repeat:
            write.begin_at(await self._search(write, NOTHING))
        else:
            write.begin_at(await self._head(write))

    async def _find_version(self, write: Write, version: int) -> None:
        found = await self._head(write)
        if found.head.version < version:  # a follower may lag
            found = await self._head(write, leader=True)
        if found.head.version > version and write.may_be_repeat:
            await self._search(write, NOTHING, until=version)
        if not write.result and found.head.version != version:
            raise _conflict(write, found.head)
        write.begin_at(found)

    async def _search(self, write: Write, after: Head, *, until: int | None = None) -> FoundHead:
        """Look through the history after a head for our events; returns the head it ends with.

        `until` is the version after which they would stand, if at all.
        """
        walk = HeadWalk(after)
        async with aclosing(self._direct.messages(write.subject, after.position)) as messages:
            async for message in messages:
                if not walk.see(message):
                    continue
                if message.headers[Header.EVENT_ID] == write.event_ids[0]:
                    await self._confirm(write, message)
                if write.result or (until is not None and walk.head.version > until):
                    break
        return walk.found

    async def _head(self, write: Write, *, leader: bool = False) -> FoundHead:
        return await find_head(self._direct, write.subject, leader=leader)

    def _out_of_time(self, timeout: float) -> AppendUnknown | ClientError:
        last = f", at last: {self._retries.last}" if self._retries.last else ""
        if self._unclear:
            return AppendUnknown(
                f"{self}: no clear answer within {timeout:g} s{last}; send the same append again"
            )
        kind = RequestTimeout if self._client.is_connected else ConnectionLost
        return kind(f"{self}: nothing was recorded within {timeout:g} s{last}")

    def __str__(self) -> str:
        return f"append to {', '.join(write.subject for write in self._writes[:3])}"


class _Retries:
    """How often what was tried, and how long to wait before the next try."""

    def __init__(self) -> None:
        self.last: ClientError | None = None
        self.silent_conflicts = 0
        self.claims = 0
        self._unanswered = 0
        self._incomplete = 0
        self._delay = _FIRST_DELAY

    def delay_after(self, error: ClientError) -> float:
        """Seconds to wait before asking again; raises the error where that cannot help."""
        self.last = error
        if isinstance(error, RequestTimeout | ConnectionLost):
            return self._longer()
        if isinstance(error, NoResponders) and self._unanswered < _MOST_UNANSWERED:
            self._unanswered += 1
            return self._longer()
        if isinstance(error, JetStreamError):
            if error.err_code in _PASSING:
                return self._longer()
            if error.err_code == _BATCH_INCOMPLETE and self._incomplete < _MOST_INCOMPLETE:
                self._incomplete += 1
                return self._longer()
        raise error

    def delay_after_conflict(self) -> float:
        """Seconds to wait before looking who was faster."""
        self.silent_conflicts += 1
        return 0.0 if self.silent_conflicts == 1 else self._longer()

    def delay_after_claim(self) -> float:
        """Seconds to wait before looking again for what the server says is there."""
        self.claims += 1
        return self._longer()

    def _longer(self) -> float:
        self._delay = min(2 * self._delay, _LONGEST_DELAY)
        return self._delay * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, not a secret


def _conflict(write: Write, found: Head | None) -> Conflict:
    append, expected = write.append, write.append.expected
    version = expected if isinstance(expected, int) else write.base.version
    actual = None if found is None else found.version
    return Conflict(append.aggregate, append.aggregate_id, version, actual)
