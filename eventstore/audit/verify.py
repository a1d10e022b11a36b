"""Verification: checks the stored log, and reports every violation of its guarantees.

Messages are checked as bytes, and the check continues after any finding; whether events can also be
decoded is checked only on request. Memory is bounded, however many events and aggregates there are.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing

from eventstore.audit.anchor import Anchor, AnchorCheck
from eventstore.audit.finding import Finding, Kind, VerifySummary
from eventstore.audit.trial_read import TrialRead
from eventstore.audit.working_set import AggregateState, WorkingSet
from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import Client
from eventstore.errors import IncompleteBatch, InvalidAnchor
from eventstore.jetstream.direct_get import SEARCH_SECONDS, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.codec import Codec
from eventstore.messages.headers import Header
from eventstore.messages.opaque_headers import OPAQUE
from eventstore.messages.text import counted
from eventstore.store.batches import BatchCheck
from eventstore.store.chain_links import Link
from eventstore.store.log import StoredLog

Progress = Callable[[VerifySummary], None]
"""Called after each page."""


async def verify(
    client: Client,
    codec: Codec,
    aggregate: str | None = None,
    aggregate_id: str | None = None,
    *,
    anchor: Anchor | None = None,
    read: bool = False,
    types: bool = True,
    summary: VerifySummary | None = None,
    progress: Progress | None = None,
    retry_timeout: float = 30.0,
) -> AsyncGenerator[Finding, None]:
    """The violations of the log's guarantees, in the order of the log, up to its current end.

    Restricted to one kind of aggregate, or to one aggregate, if these are given. A single aggregate
    is read by its subject: gaps in the log, batches, and ids that other aggregates use are not
    checked then. `summary` is updated on the way. An `anchor`, which is of the whole log, is
    compared with the log; its signature is not checked here.

    With `read`, every event is also decoded as by any reader, which takes longer: it is decrypted,
    and older schemas are upcast to the current ones. An event that cannot be decoded is
    `unreadable`; one whose personal data were forgotten is read in its forgotten form.

    Without `types`, which is for a codec that need not be the log's own, types and aggregates that
    it does not know are no findings, and are not decoded.

    No chain can show that the last events of an aggregate, or all of them, were removed; an anchor
    can. A chain covers payloads and the envelope's headers. It does not cover the server's own
    `Nats-*`, `X-Transformed`, `X-Personal` (which must match the payload if that is read), and
    headers that are unknown here: changes of these are not found. `retry_timeout` is seconds, as in
    `StoredLog`.

    Raises `InvalidAnchor` for an anchor of another log, `UnknownType`, `InvalidId`,
    `StreamMissing`, `ClientError`, and `ConfigurationError` if encryption is not installed.
    """
    if aggregate is not None and types:
        codec.check_aggregate(aggregate)
    if anchor is not None:
        if aggregate is not None:
            raise InvalidAnchor(
                "it is of the whole log: verify the whole log, not one kind of aggregate"
            )
        anchor.check_log(codec)
    stream = codec.subjects.log_stream
    summary = VerifySummary() if summary is None else summary
    async with AsyncExitStack() as stack:
        working_set = stack.enter_context(WorkingSet())
        trial = TrialRead(client, codec) if read else None
        if trial is not None:
            stack.push_async_callback(trial.close)
        verifier = _PageVerifier(codec, working_set, summary, aggregate, trial, types=types)
        if aggregate is not None and aggregate_id is not None:
            subject = codec.subjects.log(aggregate, aggregate_id)
            direct = DirectReader(client, stream, timeout=SEARCH_SECONDS)
            pages = _aggregate_findings(direct, subject, verifier)
        else:
            log = StoredLog(client, stream, retry_timeout=retry_timeout)
            pages = _log_findings(log, verifier, anchor)
        async with aclosing(pages):
            async for findings in pages:
                for finding in findings:
                    summary.count(finding)
                    yield finding
                if progress is not None:
                    progress(summary)


async def _aggregate_findings(
    direct: DirectReader, subject: str, verifier: _PageVerifier
) -> AsyncGenerator[list[Finding], None]:
    async with aclosing(direct.messages(subject)) as messages:
        async for message in messages:
            yield await verifier.in_aggregate(message)


async def _log_findings(
    log: StoredLog, verifier: _PageVerifier, anchor: Anchor | None
) -> AsyncGenerator[list[Finding], None]:
    info = await log.info()
    end = info.state.last_seq
    verifier.begin(info, None if anchor is None else AnchorCheck(anchor))
    try:
        async with aclosing(log.pages(until=end)) as pages:
            async for page in pages:
                yield await verifier.in_log(page.messages, end)
    except IncompleteBatch as error:
        yield verifier.incomplete(error)
    yield verifier.end(end)


class _PageVerifier:
    """Verifies page by page, with the state that carries over to the next."""

    def __init__(
        self,
        codec: Codec,
        working_set: WorkingSet,
        summary: VerifySummary,
        aggregate: str | None,
        trial: TrialRead | None,
        *,
        types: bool,
    ) -> None:
        self._subjects = codec.subjects
        self._codec = codec
        self._working_set = working_set
        self._summary = summary
        self._aggregate = aggregate
        self._trial = trial
        self._types = types
        self._prefix = f"{codec.domain}.log." + ("" if aggregate is None else f"{aggregate}.")
        self._batches = BatchCheck(anywhere=False)
        self._anchor: AnchorCheck | None = None
        self._last: StoredMessage | None = None
        self._aggregates: dict[str, AggregateState] = {}
        self._findings: list[Finding] = []
        self._messages_to_end = 0
        self._is_imported = False
        self._confirmed: set[int] = set()

    def begin(self, info: StreamInfo, anchor: AnchorCheck | None) -> None:
        """Start with the whole log, of which the server reports the end."""
        self._summary.total = info.state.messages
        self._is_imported = any(each.startswith(self._subjects.importing) for each in info.subjects)
        self._anchor = anchor

    async def in_aggregate(self, message: StoredMessage) -> list[Finding]:
        """The findings in the next message of one aggregate."""
        self._check(message, await self._load([message]))
        return self._take_findings()

    async def in_log(self, messages: Sequence[StoredMessage], end: int) -> list[Finding]:
        """The findings in the next messages of the log, and in their positions."""
        repeats = await self._load(messages)
        for message in messages:
            self._check_sequence(message)
            if message.subject.startswith(self._prefix):
                self._check(message, repeats)
            elif self._aggregate is None:
                self._see_foreign(message)
            self._summary.position = message.sequence
            self._messages_to_end += message.sequence <= end
            self._last = message
        return self._take_findings()

    def incomplete(self, error: IncompleteBatch) -> list[Finding]:
        """The finding for a log that ends in the middle of a batch."""
        if self._last is not None and self._last.subject.startswith(self._prefix):
            self._load_aggregates([self._last])
            self._report(self._last, "unfinished_batch", str(error))
        return self._take_findings()

    def end(self, end: int) -> list[Finding]:
        """The findings at the end of the log."""
        if self._summary.position < end:
            self._missing_positions(end + 1)
        if self._messages_to_end != self._summary.total:
            text = (
                f"the stream had {counted(self._summary.total, 'message')} up to position {end}, "
                f"and {self._messages_to_end:,} were read: some were deleted meanwhile, verify "
                "again"
            )
            self._findings.append(Finding(kind="missing", text=text, position=end))
        if self._is_imported:
            text = "an import into the log is not whole: go on with `import --continue`"
            self._findings.append(Finding(kind="unfinished_import", text=text, position=end))
        if self._anchor is not None:
            self._findings.extend(self._anchor.findings(self._summary.fold, end))
        return self._take_findings()

    async def _load(self, messages: Sequence[StoredMessage]) -> dict[int, int]:
        """Load the keys and states for the messages; returns the positions that repeat an id."""
        if self._trial is not None:
            await self._trial.prepare(
                message for message in messages if message.subject.startswith(self._prefix)
            )
        self._load_aggregates(messages)
        return self._working_set.repeats(messages)

    def _load_aggregates(self, messages: Sequence[StoredMessage]) -> None:
        self._aggregates = self._working_set.aggregates({message.subject for message in messages})

    def _take_findings(self) -> list[Finding]:
        self._working_set.store(self._aggregates)
        findings, self._findings, self._aggregates = self._findings, [], {}
        return findings

    def _check_sequence(self, message: StoredMessage) -> None:
        if message.sequence != self._summary.position + 1:
            self._missing_positions(message.sequence)
        was_open = self._batches.is_open
        try:
            self._batches.see(message.headers, message.sequence)
        except IncompleteBatch as error:
            # The batch of the message before is incomplete, unless this one belongs to it.
            before = self._last if was_open else None
            unfinished = message if before is None or _same_batch(before, message) else before
            if unfinished.subject.startswith(self._prefix):
                self._aggregates.update(
                    self._working_set.aggregates({unfinished.subject} - self._aggregates.keys())
                )
                self._report(unfinished, "unfinished_batch", str(error))

    def _missing_positions(self, before: int) -> None:
        if self._aggregate is not None:
            return
        first, last = self._summary.position + 1, before - 1
        self._summary.miss(first, last)
        which = f"position {first} is" if first == last else f"positions {first} to {last} are"
        text = f"{which} missing in the log, from which nothing can be deleted by way of the store"
        self._findings.append(Finding(kind="missing", text=text, position=first))

    def _see_foreign(self, message: StoredMessage) -> None:
        """Report a message of the stream whose subject is not one of the log."""
        self._count(message)
        self._summary.foreign += 1
        self._report(
            message, "foreign", f"its subject is {message.subject}, not one of {self._prefix}"
        )

    def _count(self, message: StoredMessage) -> None:
        self._summary.events += 1
        self._summary.first = self._summary.first or message.sequence

    def _check(self, message: StoredMessage, repeats: dict[int, int]) -> None:
        """Check a message against its aggregate's earlier ones, and its type and id."""
        aggregate = self._aggregates[message.subject]
        self._count(message)
        self._summary.aggregates += aggregate.is_new
        digest = self._summary.fold
        digest.add(message, is_new=aggregate.is_new)
        if self._anchor is not None:
            self._anchor.add(digest, message.sequence)
        aggregate.is_new = False
        kind = self._check_chain(message, aggregate)
        if kind != "foreign":
            self._check_readable(message)
        if message.sequence in repeats:
            text = f"its id is already used at position {repeats[message.sequence]}"
            self._report(message, "duplicate_id", text)

    def _check_chain(self, message: StoredMessage, aggregate: AggregateState) -> Kind | None:
        result = aggregate.follow(message, self._subjects)
        if result.problem is not None:
            self._summary.foreign += 1
            self._report(message, result.problem.kind, result.problem.text)
            return result.problem.kind
        self._summary.proven += 1
        if result.confirmed is not None:
            self._confirm(result.confirmed)
        return None

    def _confirm(self, link: Link) -> None:
        """Count an event as changed, not foreign: a later one is chained to it."""
        if link.position not in self._confirmed:
            self._confirmed.add(link.position)
            self._summary.foreign -= 1
            self._summary.changed += 1

    def _check_readable(self, message: StoredMessage) -> None:
        unknown = self._unknown_type(message)
        if unknown is not None and not self._types:
            return
        problem = None if self._trial is None else self._trial.problem(message)
        self._summary.unreadable += problem is not None or unknown is not None
        if unknown is not None:
            self._report(message, "unknown_type", unknown)
        if problem is not None:
            self._report(message, "unreadable", problem)

    def _unknown_type(self, message: StoredMessage) -> str | None:
        name = message.headers.get(Header.EVENT_TYPE)
        version = message.headers.get(Header.SCHEMA_VERSION, "1")
        if name is None or OPAQUE in message.headers:
            return None
        if not self._codec.upcasting.knows(name):
            return f"no event type {name[:80]!r} is known here"
        number = int(version) if version.isdecimal() and len(version) < 9 else 0
        if not self._codec.upcasting.reads(name, number):
            return f"schema version {version[:20]} of {name} cannot be read here"
        return None

    def _report(self, message: StoredMessage, kind: Kind, text: str) -> None:
        aggregate = self._aggregates[message.subject]
        finding = Finding.about(message, kind, text, first=not aggregate.broken)
        aggregate.broken = True
        self._findings.append(finding)


def _same_batch(one: StoredMessage, other: StoredMessage) -> bool:
    return one.headers.get(NatsHeader.BATCH_ID) == other.headers.get(NatsHeader.BATCH_ID)
