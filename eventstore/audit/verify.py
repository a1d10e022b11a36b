"""Verification: walk the log as it is stored, and name what breaks a promise.

What stands there is judged as bytes, and the walk goes on after whatever it finds; whether events
can be read as well is tried only where that is asked for. Memory is bounded, however many events
and aggregates there are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from eventstore.audit.anchor import Anchor, AnchorCheck
from eventstore.audit.finding import Finding, Kind, Summary
from eventstore.audit.trial_read import TrialRead
from eventstore.audit.working_set import Aggregate, WorkingSet
from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import Client
from eventstore.errors import IncompleteBatch, InvalidAnchor, InvalidSubject
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Header
from eventstore.store.chain_links import Link, follow
from eventstore.store.log import StoredLog
from eventstore.store.reader import BatchCheck

__all__ = ["Progress", "verify"]

Progress = Callable[[Summary], None]
"""What is called after each page."""


async def verify(
    client: Client,
    codec: Codec,
    aggregate: str | None = None,
    aggregate_id: str | None = None,
    *,
    anchor: Anchor | None = None,
    read: bool = False,
    summary: Summary | None = None,
    progress: Progress | None = None,
    retry_timeout: float = 30.0,
) -> AsyncGenerator[Finding, None]:
    """What breaks a promise, in the order of the log, among the events that stand now.

    Only what is of one kind of aggregate, or of one aggregate, where these are given. One
    aggregate is read by itself: holes in the log, batches, and ids that other aggregates use are
    then not looked at. `summary` is filled in on the way. With an `anchor`, which is of the whole
    log, that is compared with it too; its signature is not checked here.

    With `read`, every event is read too as any reader would, which takes longer: what is sealed is
    opened, and older schemas are upcast to the classes of today. An event that cannot be read is
    `unreadable`; one whose personal data were forgotten is read in its forgotten form.

    That the last events of an aggregate were removed, or all of them, no chain can tell; an anchor
    can. A chain holds payloads and the envelope's headers. Outside of it are the server's own
    `Nats-*`, `X-Transformed`, `X-Personal` (which must fit the payload where that is read), and
    headers that are unknown here: that these were changed is not found. `retry_timeout` is seconds,
    as in `StoredLog`.

    Raises `InvalidAnchor` for an anchor of another log, `UnknownType`, `InvalidId`,
    `StreamMissing`, a `ClientError`, or `ConfigurationError` where what opens seals is not
    installed.
    """
    if aggregate is not None:
        codec.check_aggregate(aggregate)
    if anchor is not None:
        if aggregate is not None:
            raise InvalidAnchor("it is of the whole log, not of one kind of aggregate")
        anchor.check_log(codec)
    stream = codec.subjects.log_stream
    summary = Summary() if summary is None else summary
    async with AsyncExitStack() as stack:
        seen = stack.enter_context(WorkingSet())
        trial = TrialRead(client, codec) if read else None
        if trial is not None:
            stack.push_async_callback(trial.close)
        walk = _Walk(codec, seen, summary, aggregate, trial)
        if aggregate is not None and aggregate_id is not None:
            subject = codec.subjects.log(aggregate, aggregate_id)
            pages = _one(DirectReader(client, stream), subject, walk)
        else:
            log = StoredLog(client, stream, retry_timeout=retry_timeout)
            pages = _all(log, walk, anchor)
        async with aclosing(pages):
            async for findings in pages:
                for finding in findings:
                    summary.count(finding)
                    yield finding
                if progress is not None:
                    progress(summary)


async def _one(
    direct: DirectReader, subject: str, walk: _Walk
) -> AsyncGenerator[list[Finding], None]:
    async with direct, aclosing(direct.messages(subject)) as messages:
        async for message in messages:
            yield await walk.alone([message])


async def _all(
    log: StoredLog, walk: _Walk, anchor: Anchor | None
) -> AsyncGenerator[list[Finding], None]:
    info = await log.info()
    end = info.state.last_seq
    walk.begin(info, None if anchor is None else AnchorCheck(anchor))
    try:
        async with aclosing(log.pages(until=end)) as pages:
            async for page in pages:
                yield await walk.in_log(page.messages, end)
    except IncompleteBatch as error:
        yield walk.torn(error)
    yield walk.end(end)


class _Walk:
    """Checks one page after another, and keeps what the next is to be checked with."""

    def __init__(
        self,
        codec: Codec,
        seen: WorkingSet,
        summary: Summary,
        aggregate: str | None,
        trial: TrialRead | None,
    ) -> None:
        self._subjects = codec.subjects
        self._codec = codec
        self._seen = seen
        self._summary = summary
        self._aggregate = aggregate
        self._trial = trial
        self._prefix = f"{codec.domain}.log." + ("" if aggregate is None else f"{aggregate}.")
        self._batches = BatchCheck(anywhere=False)
        self._anchor: AnchorCheck | None = None
        self._last: StoredMessage | None = None
        self._known: dict[str, Aggregate] = {}
        self._findings: list[Finding] = []
        self._seen_to_end = 0
        self._is_imported = False
        self._confirmed: set[int] = set()

    def begin(self, info: StreamInfo, anchor: AnchorCheck | None) -> None:
        """Begin with the whole log, of which the server says how far it goes."""
        self._summary.total = info.state.messages
        self._is_imported = any(each.startswith(self._subjects.importing) for each in info.subjects)
        self._anchor = anchor

    async def alone(self, messages: Sequence[StoredMessage]) -> list[Finding]:
        """What is wrong with the next messages of one aggregate."""
        await self._prepare_trial(messages)
        self._prepare(messages)
        repeats = self._seen.repeats(messages)
        for message in messages:
            self._see(message, repeats)
        return self._finish()

    async def in_log(self, messages: Sequence[StoredMessage], end: int) -> list[Finding]:
        """What is wrong with the next messages of the log, and with their places in it."""
        await self._prepare_trial(messages)
        self._prepare(messages)
        repeats = self._seen.repeats(messages)
        for message in messages:
            self._check_place(message)
            if message.subject.startswith(self._prefix):
                self._see(message, repeats)
            elif self._aggregate is None:
                self._see_elsewhere(message)
            self._summary.position = message.sequence
            self._seen_to_end += message.sequence <= end
            self._last = message
        return self._finish()

    def torn(self, error: IncompleteBatch) -> list[Finding]:
        """The log ended in the middle of a batch."""
        if self._last is not None and self._last.subject.startswith(self._prefix):
            self._prepare([self._last])
            self._find(self._last, "unfinished_batch", str(error))
        return self._finish()

    def end(self, end: int) -> list[Finding]:
        """What can be said when all of the log was seen."""
        if self._summary.position < end:
            self._missing_positions(end + 1)
        if self._seen_to_end != self._summary.total:
            text = (
                f"the stream held {self._summary.total:,} messages up to position {end}, and "
                f"{self._seen_to_end:,} were read: verify again, for some were deleted meanwhile"
            )
            self._findings.append(Finding(kind="missing", text=text, position=end))
        if self._is_imported:
            text = "an import into the log is not whole: go on with `import --continue`"
            self._findings.append(Finding(kind="unfinished_import", text=text, position=end))
        if self._anchor is not None:
            self._findings.extend(self._anchor.findings(self._summary.fold, end))
        return self._finish()

    async def _prepare_trial(self, messages: Sequence[StoredMessage]) -> None:
        if self._trial is not None:
            await self._trial.prepare(
                message for message in messages if message.subject.startswith(self._prefix)
            )

    def _prepare(self, messages: Sequence[StoredMessage]) -> None:
        self._findings = []
        self._known = self._seen.aggregates({message.subject for message in messages})

    def _finish(self) -> list[Finding]:
        self._seen.keep(self._known)
        findings, self._findings, self._known = self._findings, [], {}
        return findings

    def _check_place(self, message: StoredMessage) -> None:
        if message.sequence != self._summary.position + 1:
            self._missing_positions(message.sequence)
        was_open = self._batches.is_open
        try:
            self._batches.see(message.headers, message.sequence)
        except IncompleteBatch as error:
            # It is the batch of the message before that was cut, unless this one belongs to it.
            before = self._last if was_open else None
            cut = message if before is None or _same_batch(before, message) else before
            if cut.subject.startswith(self._prefix):
                self._known.update(self._seen.aggregates({cut.subject} - self._known.keys()))
                self._find(cut, "unfinished_batch", str(error))

    def _missing_positions(self, before: int) -> None:
        if self._aggregate is not None:
            return
        first, last = self._summary.position + 1, before - 1
        self._summary.miss(first, last)
        which = f"position {first} is" if first == last else f"positions {first} to {last} are"
        text = f"{which} missing in the log, from which nothing can be deleted by way of the store"
        self._findings.append(Finding(kind="missing", text=text, position=first))

    def _see_elsewhere(self, message: StoredMessage) -> None:
        """A message of the stream that is not under a subject of the log."""
        self._begin_message(message)
        self._summary.foreign += 1
        self._find(message, "foreign", f"it stands under {message.subject}, not in {self._prefix}")

    def _begin_message(self, message: StoredMessage) -> None:
        self._summary.events += 1
        self._summary.first = self._summary.first or message.sequence

    def _see(self, message: StoredMessage, repeats: dict[int, int]) -> None:
        """Check a message against those before it in its aggregate, and its type and id."""
        aggregate = self._known[message.subject]
        self._begin_message(message)
        self._summary.aggregates += aggregate.is_new
        fold = self._summary.fold
        fold.add(message, is_new=aggregate.is_new)
        if self._anchor is not None:
            self._anchor.see(fold, message.sequence)
        aggregate.is_new = False
        kind = self._check_chain(message, aggregate)
        if kind != "foreign":
            self._check_reading(message)
        if message.sequence in repeats:
            text = f"its id stands at position {repeats[message.sequence]} already"
            self._find(message, "duplicate_id", text)

    def _check_chain(self, message: StoredMessage, aggregate: Aggregate) -> Kind | None:
        try:
            self._subjects.parse_log(message.subject)
        except InvalidSubject as error:
            self._summary.foreign += 1
            self._find(message, "foreign", str(error))
            return "foreign"
        followed = follow(aggregate.links, message)
        aggregate.links = followed.links
        if followed.problem is not None:
            self._summary.foreign += 1
            self._find(message, followed.problem.kind, followed.problem.text)
            return followed.problem.kind
        self._summary.proven += 1
        if followed.confirmed is not None:
            self._confirm(followed.confirmed)
        return None

    def _confirm(self, link: Link) -> None:
        """What did not follow is no forgery: this event was built upon it."""
        if link.position not in self._confirmed:
            self._confirmed.add(link.position)
            self._summary.foreign -= 1
            self._summary.changed += 1

    def _check_reading(self, message: StoredMessage) -> None:
        problem = None if self._trial is None else self._trial.problem(message)
        unknown = self._unknown_type(message)
        self._summary.unreadable += problem is not None or unknown is not None
        if unknown is not None:
            self._find(message, "unknown_type", unknown)
        if problem is not None:
            self._find(message, "unreadable", problem)

    def _unknown_type(self, message: StoredMessage) -> str | None:
        name = message.headers.get(Header.EVENT_TYPE)
        version = message.headers.get(Header.SCHEMA_VERSION, "1")
        if name is None:
            return None
        if not self._codec.knows_event(name):
            return f"no event type {name[:80]!r} is known here"
        if not self._codec.reads_event(name, _number(version)):
            return f"schema version {version[:20]} of {name} cannot be read here"
        return None

    def _find(self, message: StoredMessage, kind: Kind, text: str) -> None:
        aggregate = self._known[message.subject]
        finding = Finding.about(message, kind, text, first=not aggregate.broken)
        aggregate.broken = True
        self._findings.append(finding)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def _same_batch(one: StoredMessage, other: StoredMessage) -> bool:
    return one.headers.get(NatsHeader.BATCH_ID) == other.headers.get(NatsHeader.BATCH_ID)
