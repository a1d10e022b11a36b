"""The appender: the write protocol, from the expectations to one of four results.

Recorded; already recorded (a repeat, which is success); a conflict; or unknown, if the timeout ends
before it is clear. The event ids, fixed before the first attempt, distinguish our events from
others', for ever and not only within the server's duplicate window:

1. Find each aggregate's base, the head to append to. A head that the caller names must be known, or
   verified in the log: the server's guard compares positions only, and those of another log, or of
   another event, may match.
2. Search for ids that the caller may have sent before, in the aggregate up to the base. Events
   after the base are excluded by the guard. If none is found, a base that is not the expected one
   is a conflict.
3. Publish, each aggregate guarded by the last position on its subject (`log_writer`).
4. If the answer is a clear success, note the positions.
5. Else wait as long as the answer requires, search up to the heads that the leader knows, and go on
   with step 3 if nothing was found.

A search, in step 2 as in step 5, has one of four results. An append is atomic: if one of its events
is found, all must be, each aggregate's as one run, and then it is recorded, regardless of its
expectations and of later events; if they are not, an id is used by another append. If none is found
and an aggregate has moved past a fixed base, it is a conflict. Else it is published (again).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from eventstore.client.client import Client
from eventstore.concurrency.batching import own_task
from eventstore.errors import (
    AppendUnknown,
    BatchTooLarge,
    ClientError,
    Conflict,
    ConnectionLost,
    DuplicateId,
    EventStoreError,
    EventTooLarge,
    JetStreamError,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import PubAck
from eventstore.jetstream.vocabulary import CONFLICTS, ErrorCode
from eventstore.store.append import ANY_VERSION, NO_STREAM, STREAM_EXISTS, AppendResult, Expected
from eventstore.store.append_retries import AppendRetries
from eventstore.store.append_search import AppendSearch
from eventstore.store.head import NOTHING, FoundHead, Head, find_head
from eventstore.store.high_water_mark import HighWaterMark
from eventstore.store.id_index import IdIndex
from eventstore.store.known_heads import KnownHeads
from eventstore.store.log_writer import LogWriter
from eventstore.store.pending_append import PendingAppend
from eventstore.telemetry import Telemetry

_UNBOUNDED = 86_400.0  # the append as a whole has its own bound
_MAX_SILENT_CONFLICTS = 6
_MAX_CLAIMS = 3


class Appender:
    """One append, from its expectations to its result; `timeout` is seconds for each answer.

    `tried` is the answer to a first attempt, if there was one: it then goes on with step 5.
    """

    def __init__(
        self,
        client: Client,
        direct: DirectReader,
        ids: IdIndex,
        heads: KnownHeads,
        writes: Sequence[PendingAppend],
        timeout: float,
        telemetry: Telemetry,
        log: LogWriter,
        high_water: HighWaterMark,
        tried: ClientError | PubAck | None = None,
    ) -> None:
        self._log = log
        self._high_water = high_water
        self._tried = tried
        self._client = client
        self._direct = direct
        self._ids = ids
        self._heads = heads
        self._era = heads.era  # of the known heads, when the bases were found
        self._writes = writes
        self._timeout = timeout
        self._telemetry = telemetry
        self._tries = 0
        self._retries = AppendRetries()
        self._unclear = False  # something was sent, and the answer is not known
        self._search = AppendSearch(direct, ids, writes)

    async def run(self, timeout: float, began: float) -> list[AppendResult]:
        """Record the writes within `timeout` seconds of `began` (`time.monotonic`), all or none.

        Raises `Conflict`, `AppendUnknown` if something was sent and its result is not known,
        `DuplicateId`, and if nothing was sent, or the server refused it, `EventTooLarge`,
        `BatchTooLarge`, `StreamMissing` or a `ClientError`.
        """
        await own_task()  # which the timeout below needs
        try:
            async with asyncio.timeout(began + timeout - time.monotonic()):
                await self._record()
        except TimeoutError:
            raise self._out_of_time(timeout) from self._retries.last
        except (Conflict, DuplicateId):
            raise  # the log shows that nothing of it is, or will be, recorded
        except EventStoreError as error:
            if self._unclear:
                raise AppendUnknown(
                    f"{self}: whether it was recorded is unknown: {error}; send the same "
                    "append again"
                ) from error
            raise
        return self._results()

    async def _record(self) -> None:
        """The write protocol; the numbers are those of the module's docstring."""
        if self._tried is None:
            await self._ask(self._prepare)  # steps 1 and 2
        else:
            self._tries, self._unclear = 1, True
            await self._react(self._tried, before=False)
            await self._ask(self._prepare if self._has_guessed() else self._look)
        while not all(write.result for write in self._writes):
            await self._ask(self._high_water.verify)
            # A broken connection ends the era: the log may have been replaced since.
            if self._era != self._heads.era or not await self._publish():  # steps 3 and 4
                await self._ask(self._look)  # step 5

    async def _prepare(self) -> None:
        """Find the bases, and ids up to there that the caller may have sent before."""
        self._era = self._heads.era
        for write in self._writes:
            # 1. Find the base.
            write.begin_at(await self._find_base(write))
            # 2. Search for ids that the caller may have sent before.
            if self._search.may_be_repeat:
                await self._search.up_to(write, write.base)
        if self._search.found_any:
            await self._look()
        else:
            for write in self._writes:
                _check_expected(write)

    async def _publish(self) -> bool:
        """Send the events, and note their positions; False unless the server confirms them."""
        if self._tries:
            self._telemetry.count("retries", operation="append")
        self._tries += 1
        before, self._unclear = self._unclear, True
        asking = self._retries.incomplete > 0  # a subject of the batch may be forbidden
        try:
            answer = await self._log.attempt(self._writes, self._timeout, asking=asking)
        except (EventTooLarge, BatchTooLarge):  # nothing was sent
            self._unclear = before
            raise
        if answer is None:
            return True
        await self._react(answer, before)
        return False

    def _has_guessed(self) -> bool:
        """Whether a base was refused that nobody has named: it may be wrong in any way."""
        is_conflict = isinstance(self._tried, JetStreamError) and self._tried.err_code in CONFLICTS
        return is_conflict and not any(write.is_fixed for write in self._writes)

    async def _react(self, answer: ClientError | PubAck, before: bool) -> None:
        """Wait as long as an answer requires; `before`: earlier attempts are unclear."""
        if isinstance(answer, RequestTimeout | ConnectionLost):
            self._retries.last = answer  # which `_look` may explain
        elif isinstance(answer, JetStreamError | NoResponders | PermissionDenied):
            self._unclear = before
            await self._after_refusal(answer)
        elif isinstance(answer, PubAck):
            self._unclear = before
            self._search.claimed = f"an event id is recorded at position {answer.seq} already"
        else:
            raise answer

    async def _look(self) -> None:
        """Step 5: search up to the heads that the leader knows, for our events and others'.

        If all of ours are found, the append is recorded; if only some, raises `DuplicateId`.
        """
        self._era = self._heads.era
        heads = await self._search.all_up_to_now()
        while self._search.found_any:
            if self._search.note_recorded():
                return
            await self._wait_for_more()
            heads = await self._search.all_up_to_now()
        for write, found in zip(self._writes, heads, strict=True):
            self._move_base(write, found)
        if self._search.claimed:
            await self._wait_for_more()

    async def recorded_before(self, timeout: float) -> list[AppendResult]:
        """The result of an append that is recorded already; nothing if it is not.

        For appends that can no longer be sent. Raises a `ClientError` without an answer in time.
        """
        if not self._search.may_be_repeat:
            return []
        try:
            async with asyncio.timeout(timeout):
                await self._ask(self._search.all_up_to_now)
        except TimeoutError:
            raise self._out_of_time(timeout) from self._retries.last
        return self._results() if self._search.note_recorded() else []

    def _results(self) -> list[AppendResult]:
        return [write.result for write in self._writes if write.result]

    async def _after_refusal(self, error: ClientError) -> None:
        """Wait as long as the error requires; raise it if a retry cannot help."""
        err_code = error.err_code if isinstance(error, JetStreamError) else 0
        if err_code == ErrorCode.DUPLICATE_IN_BATCH:
            self._search.claimed = "an event id is recorded in another aggregate already"
        elif err_code in CONFLICTS:
            # Usually the search then finds another's event. If it repeatedly does not, the base is
            # wrong in another way: a head from another log, say.
            if self._retries.silent_conflicts == _MAX_SILENT_CONFLICTS:
                raise _conflict(self._guarded(), None) from error
            await asyncio.sleep(self._retries.delay_after_conflict())
        else:
            await asyncio.sleep(self._retries.delay_after(error))

    async def _ask(self, question: Callable[[], Awaitable[object]]) -> None:
        """Ask until there is an answer, because events that were sent may be recorded."""
        while True:
            try:
                await self._connected()
                await self._high_water.verify()
                await question()
            except (RequestTimeout, ConnectionLost, NoResponders, JetStreamError) as error:
                if self._client.is_closed:
                    raise
                await asyncio.sleep(self._retries.delay_after(error))
            else:
                return

    async def _connected(self) -> None:
        if not self._client.is_connected:
            await self._client.wait_connected(_UNBOUNDED)

    async def _find_base(self, write: PendingAppend) -> FoundHead:
        expected = write.append.expected
        if isinstance(expected, Head) and await self._holds(write.subject, expected):
            return FoundHead(expected, expected.position)
        if expected is NO_STREAM or expected == 0:
            return FoundHead(NOTHING, 0)
        known = self._heads.get(write.subject)
        leader = isinstance(expected, Head)
        found = await find_head(self._direct, write.subject, leader=leader, known=known)
        if found.head.version < _at_least(expected):  # a follower may lag
            found = await find_head(self._direct, write.subject, leader=True, known=known)
        self._heads.note(write.subject, found.head, self._era)
        return found

    async def _holds(self, subject: str, head: Head) -> bool:
        """Whether the log has the head's event on a subject: the guard compares only positions."""
        if head in (NOTHING, self._heads.get(subject)):
            return True
        for leader in (False, True):  # a follower may lag
            message = await self._direct.at(head.position, leader=leader) if head.position else None
            if message is not None:
                return message.subject == subject and head.matches(message)
        return False

    def _move_base(self, write: PendingAppend, found: FoundHead) -> None:
        """Move behind others' events if any version is expected; else raises `Conflict`."""
        if found == FoundHead(write.base, write.end):
            return
        if found.head != write.base and write.append.expected not in ANY_VERSION:
            raise _conflict(write, found.head)
        write.begin_at(found)
        _check_expected(write)
        self._retries.silent_conflicts = 0

    async def _wait_for_more(self) -> None:
        """Wait for events that are being stored; raises `DuplicateId` after some attempts."""
        if self._retries.claims == _MAX_CLAIMS:
            raise DuplicateId(f"{self}: {self._search.used_id}; a new event needs a new id")
        await asyncio.sleep(self._retries.delay_after_claim())

    def _guarded(self) -> PendingAppend:
        fixed = (write for write in self._writes if write.append.expected not in ANY_VERSION)
        return next(fixed, self._writes[0])

    def _out_of_time(self, timeout: float) -> AppendUnknown | ClientError:
        last = f", at last: {self._retries.last}" if self._retries.last else ""
        if self._unclear:
            return AppendUnknown(
                f"{self}: whether it was recorded is unknown: no clear answer within {timeout:g} s"
                f"{last}; send the same append again"
            )
        kind = RequestTimeout if self._client.is_connected else ConnectionLost
        return kind(f"{self}: nothing was recorded within {timeout:g} s{last}")

    def __str__(self) -> str:
        return f"append to {', '.join(write.subject for write in self._writes[:3])}"


def _at_least(expected: Expected) -> int:
    """The lowest version that may be expected."""
    return expected if isinstance(expected, int) else int(expected is STREAM_EXISTS)


def _check_expected(write: PendingAppend) -> None:
    """Raise `Conflict` unless the base is the expected one."""
    expected = write.append.expected
    if expected is STREAM_EXISTS and write.base == NOTHING:
        raise Conflict(write.append.aggregate, write.aggregate_id, None, 0)
    if isinstance(expected, int) and write.base.version != expected:
        raise _conflict(write, write.base)
    if isinstance(expected, Head) and write.base != expected:
        raise _conflict(write, None)  # no head of this aggregate, in this log


def _conflict(write: PendingAppend, found: Head | None) -> Conflict:
    append, expected = write.append, write.append.expected
    base = expected if isinstance(expected, Head) else write.base
    version = expected if isinstance(expected, int) else base.version
    actual = None if found is None else found.version
    return Conflict(append.aggregate, write.aggregate_id, version, actual)
