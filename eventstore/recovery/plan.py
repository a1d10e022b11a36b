"""The plan of a recovery: what the log no longer has, and what would be done about it.

Making one changes nothing. Each part is read as far as it reaches beyond the history that is left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from msgspec import Struct

from eventstore.client.client import Client
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subjects
from eventstore.projections.database.checkpoint import Checkpoint
from eventstore.recovery.evidence import (
    of_checkpoint,
    outcome_mark,
    published_mark,
    read_outcome,
    seen_by_streams,
)
from eventstore.recovery.history import RemainingHistory
from eventstore.recovery.log_record import LogRecord
from eventstore.store.log_mark import LogMark
from eventstore.store.snapshots.bucket import StoredSnapshots
from eventstore.subscribers.status import Subscribers

Progress = Callable[[str, int, int], object]
"""Is called with the step, how far it is, and the total."""

_REPORT = 500
_NEVER = 1 << 62


class LostOutcome(Struct, frozen=True):
    """The outcome of a command whose events the log no longer has; `revision` is the bucket's."""

    command_id: str
    aggregate: str
    aggregate_id: str
    position: int
    revision: int


class LostPublication(Struct, frozen=True):
    """A published event that the log no longer has; `sequence` is that of the event stream."""

    event_id: str
    type: str
    position: int
    sequence: int


class LostSnapshot(Struct, frozen=True):
    """A snapshot of a history that the log no longer has."""

    key: str
    revision: int


class OutdatedReadModel(Struct, frozen=True):
    """A read model of a history, or of a log, that is not this one's."""

    name: str
    position: int


class Ahead(Struct, frozen=True):
    """A subscriber that has handled events up to a position that is no longer this history's."""

    name: str
    position: int


class RecoveryPlan(Struct, kw_only=True):
    """What the log no longer has, and what is to be done.

    The log is what it was up to `position`, and ends at `end`. `unpublished` are the positions, of
    those up to `published_until`, whose events were passed over: others were published after them.
    `rejections` are commands that were rejected because of events that are gone; they stay
    rejected, as what was published stays published. `noted` is what else has seen more.
    """

    log: str
    position: int = 0
    end: int = 0
    is_missing: bool = False
    read_models: list[OutdatedReadModel] = []
    outcomes: list[LostOutcome] = []
    rejections: list[str] = []
    published: list[LostPublication] = []
    unpublished: list[int] = []
    published_until: int = 0
    snapshots: list[LostSnapshot] = []
    subscribers: list[Ahead] = []
    timers: int = 0
    noted: list[str] = []

    @property
    def is_needed(self) -> bool:
        """Whether anything is to be recovered."""
        found = self.read_models or self.outcomes or self.published or self.snapshots
        return bool(found or self.noted or self.unpublished or self.is_missing)


async def plan_recovery(
    client: Client,
    subjects: Subjects,
    known: Iterable[Checkpoint] = (),
    progress: Progress = lambda *_: None,
) -> RecoveryPlan:
    """Find what the log no longer has; `known` are the checkpoints of the read models.

    Reads all outcomes, snapshots and published events, and the parts of the log they are from.
    Raises `StreamMissing` and `ClientError`.
    """
    planning = _Planning(client, subjects, progress)
    await planning.history.open()
    await planning.add_noted()
    await planning.add_read_models(known)
    await planning.add_outcomes()
    await planning.add_published()
    await planning.add_snapshots()
    return await planning.done()


class _Planning:
    """A plan in the making; `_lost` is the first position that is known to be another now."""

    def __init__(self, client: Client, subjects: Subjects, progress: Progress) -> None:
        self.history = RemainingHistory(client, subjects)
        self._plan = RecoveryPlan(log=subjects.log_stream)
        self._client = client
        self._subjects = subjects
        self._progress = progress
        self._lost = _NEVER

    async def _is_lost(self, mark: LogMark) -> bool:
        if await self.history.has(mark):
            return False
        self._lost = min(self._lost, mark.position)
        return True

    async def add_noted(self) -> None:
        """What the configuration bucket and the ends of the streams say."""
        for each in await seen_by_streams(self._client, self._subjects):
            if await self._is_lost(each.mark):
                self._plan.noted.append(f"{each.seen_by}: {each.mark.position}")

    async def add_read_models(self, known: Iterable[Checkpoint]) -> None:
        """Those of another log, or of a history that is gone."""
        for each in known:
            is_other = each.log is not None and each.log != self.history.identity
            if each.position and (is_other or await self._is_lost(of_checkpoint(each).mark)):
                self._plan.read_models.append(OutdatedReadModel(each.name, each.position))

    async def add_outcomes(self) -> None:
        """Those with events that are gone, and rejections because of such events."""
        bucket = KeyValue(self._client, self._subjects.outcome_bucket)
        async with aclosing(self._entries(bucket, "*", "outcomes")) as entries:
            async for entry in entries:
                outcome = read_outcome(entry)
                if outcome is None or not outcome.position:
                    continue
                mark = outcome_mark(outcome)
                if mark is None and outcome.status == "rejected":
                    await self._add_rejection(outcome)
                elif mark is not None and await self._is_lost(mark):
                    place = outcome.aggregate or "", outcome.aggregate_id or ""
                    lost = LostOutcome(outcome.command_id, *place, mark.position, entry.sequence)
                    self._plan.outcomes.append(lost)

    async def _add_rejection(self, outcome: Outcome) -> None:
        """Of an aggregate whose last event then is no event of it now."""
        found = await self.history.at(outcome.position)
        own = self._subjects.log(outcome.aggregate or "", outcome.aggregate_id or "")
        if found is None or found.subject != own:
            self._plan.rejections.append(outcome.command_id)

    async def add_published(self) -> None:
        """Published events that are gone, and those of the log that were passed over."""
        settled = await LogRecord(self._client, self._subjects).settled()
        first, published = _NEVER, set[int]()
        stream = self._subjects.event_stream
        last = (await stream_info(self._client, stream)).state.last_seq
        events = DirectReader(self._client, stream)
        async for page in events.pages(self._subjects.filter("event")):
            for message in page:
                mark = published_mark(message)
                if mark is None:
                    continue
                first = min(first, mark.position)
                if await self.history.has(mark):
                    published.add(mark.position)
                elif message.sequence > settled:
                    await self._is_lost(mark)
                    self._plan.published.append(_publication(message, mark))
            self._progress("published events", page[-1].sequence, last)
        if self._plan.published and published:
            self._plan.published_until = max(published)
            between = range(first, max(published))
            self._plan.unpublished = [each for each in between if each not in published]

    async def add_snapshots(self) -> None:
        """Those of a history that is gone."""
        snapshots = StoredSnapshots(self._client, self._subjects)
        async with aclosing(snapshots.all()) as stored:
            async for key, revision, head in stored:
                if await self._is_lost(LogMark(head.position, head.event_id, head.chain)):
                    self._plan.snapshots.append(LostSnapshot(key, revision))

    async def done(self) -> RecoveryPlan:
        """The plan, with what is not changed and may have to be looked at."""
        plan = self._plan
        plan.end = self.history.end
        plan.is_missing = self.history.is_missing
        plan.position = min(plan.end, self._lost - 1)
        plan.published_until = max(plan.published_until, plan.position)
        if plan.is_needed:
            found = await Subscribers(self._client, self._subjects).list()
            beyond = [each for each in found if each.position > plan.position]
            plan.subscribers = [Ahead(each.name, each.position) for each in beyond]
            timers = await stream_info(self._client, self._subjects.timer_stream)
            plan.timers = timers.state.messages
        return plan

    async def _entries(
        self, bucket: KeyValue, keys: str, what: str
    ) -> AsyncGenerator[StoredMessage, None]:
        """The entries of a bucket, with reports of how far the reading is."""
        last, count = (await bucket.info()).state.last_seq, 0
        async with aclosing(bucket.entries(keys)) as entries:
            async for entry in entries:
                yield entry
                count += 1
                if count % _REPORT == 0:
                    self._progress(what, entry.sequence, last)


def _publication(message: StoredMessage, mark: LogMark) -> LostPublication:
    kind = message.headers.get(Header.EVENT_TYPE, "")
    return LostPublication(mark.event_id, kind, mark.position, message.sequence)
