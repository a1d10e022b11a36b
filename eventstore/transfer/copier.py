"""Copy and transform: makes a file from another, with events renamed, split, dropped or masked.

Versions in the aggregates, positions (from 1) and all chain values are computed from scratch, so
that the imported result passes verification. Every event whose chain value changes has a header
`X-Transformed: BY; id=...; chain=...`, which names the transformation and the original event. The
file's first line names the transformation, too.

An event that becomes one keeps its id; the parts of a split get ids derived from it. Events that
name a dropped or split event as their cause keep doing so. Messages that are not the store's stop
the copy, or are left out if requested; an event that was changed and then built upon always stops
it, because its original content is lost. The remaining events of an atomic batch stay one batch,
and so do the parts of a split.

The original chain value in `X-Transformed` also hashes the original payload: it does not reveal
what was masked, but it confirms a correct guess.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from eventstore.audit.working_set import AggregateState, WorkingSet
from eventstore.errors import EventStoreError, TransferError
from eventstore.jetstream.publish import MAX_BATCH
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import BATCH_HEADERS, EXPECTED_HEADERS, NatsHeader
from eventstore.messages.chain import chain_value
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.envelope import Envelope, derive_id, format_timestamp, utc_now
from eventstore.messages.headers import AUTHENTICATED_AS, COMMAND_DIGEST, Header
from eventstore.messages.subjects import Subjects, check_name
from eventstore.store.chain_links import Link, Links
from eventstore.transfer.checker import LineChains
from eventstore.transfer.file_format import EventLine, FileSums, FirstLine, Transformation
from eventstore.transfer.file_reader import FileReader, FileState, check_file, open_export
from eventstore.transfer.file_writer import FileWriter, partial_file
from eventstore.transfer.importer import units
from eventstore.transfer.sender import SendUnit
from eventstore.transfer.transformation import (
    CopiedEvent,
    CopySummary,
    Transform,
    apply_transform,
    copied_event,
)

TRANSFORMED = "X-Transformed"
"""The header that names the transformation of an event, and the original event."""

_GROUP_EVENTS = 1_000  # whose aggregates are looked up together


class _Part(msgspec.Struct, frozen=True):
    """An event to write, with its original line."""

    event: CopiedEvent
    line: EventLine
    event_id: str


async def copy(
    source: Path,
    target: Path,
    transform: Transform,
    *,
    name: str | None = None,
    domain: str | None = None,
    without_foreign: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CopySummary:
    """Write the events of a file, as `transform` changes them, to a new file.

    `name` is what the transformation is called in the copy (by default its module and name),
    `domain` the copy's, if it is another. Raises `DamagedFile`, and `TransferError`, naming the
    position, if `transform` fails or returns what a log cannot contain, and for a message that is
    not the store's, unless it is foreign and `without_foreign` leaves it out.
    """
    first, state = await check_file(source)
    name = name or f"{transform.__module__}:{transform.__qualname__}"
    if not name.isprintable():
        raise TransferError(f"a transformation cannot be called {name[:80]!r}")
    subjects = Subjects(domain or first.domain)
    copier = _Copier(first.domain, subjects, transform, name)
    with ExitStack() as stack:
        file = stack.enter_context(open_export(source))
        out = stack.enter_context(partial_file(target, keep=False))
        seen, known = stack.enter_context(WorkingSet()), stack.enter_context(WorkingSet())
        writer = FileWriter(out, FileState(FileSums()))
        await writer.begin(_first_line(first, state, subjects, name))
        chains = LineChains(Subjects(first.domain), known)
        lines = FileReader(source, file).events()
        events = copier.own_events(lines, chains, without_foreign=without_foreign)
        for group in _grouped(units(events)):
            for line in copier.lines(group, seen):
                await writer.add(line)
            if progress is not None:
                progress(copier.summary.before, state.events)
        await writer.end()
    return copier.summary


def _grouped(units: Iterable[SendUnit]) -> Iterator[list[SendUnit]]:
    group: list[SendUnit] = []
    count = 0
    for unit in units:
        group.append(unit)
        count += len(unit.events)
        if count >= _GROUP_EVENTS:
            yield group
            group, count = [], 0
    if group:
        yield group


def _first_line(first: FirstLine, state: FileState, subjects: Subjects, name: str) -> FirstLine:
    now = format_timestamp(utc_now())
    own = Transformation(by=name, time=now, events=state.events, source=state.sums.value)
    return msgspec.structs.replace(
        first,
        domain=subjects.domain,
        stream=subjects.log_stream,
        time=now,
        transformed=[*first.transformed, own],
    )


class _Copier:
    """Transforms units into lines, in order."""

    def __init__(self, source: str, subjects: Subjects, transform: Transform, name: str) -> None:
        self.summary = CopySummary()
        self._source = Subjects(source)
        self._subjects = subjects
        self._transform = transform
        self._name = name
        self._position = 0

    def own_events(
        self, lines: Iterable[EventLine], chains: LineChains, *, without_foreign: bool
    ) -> Iterator[EventLine]:
        """The lines that are the store's events; raises `TransferError` for others."""
        for line in lines:
            problem, confirmed = chains.follow(line)[1:]
            if confirmed is not None:
                raise TransferError(
                    f"position {line.position} goes back to position {confirmed.position}, which "
                    "was changed, or something before it is missing: see `audit verify`"
                )
            if problem is None:
                yield line
            elif without_foreign:
                self.summary.foreign += 1
            else:
                raise TransferError(
                    f"position {line.position} cannot be copied: {problem.text}; "
                    "--without-foreign leaves out what is not an event of the store"
                )

    def lines(self, some: Sequence[SendUnit], seen: WorkingSet) -> Iterator[EventLine]:
        """The lines that units become; the heads of their aggregates are looked up together."""
        transformed = [
            [part for line in unit.events for part in self._parts(line)] for unit in some
        ]
        subjects = [[self._subject(part.event) for part in parts] for parts in transformed]
        known = seen.aggregates(itertools.chain.from_iterable(subjects))
        for parts, places in zip(transformed, subjects, strict=True):
            if len(parts) > MAX_BATCH:
                raise TransferError(
                    f"position {parts[0].line.position}: a batch would have {len(parts):,} events; "
                    f"the maximum is {MAX_BATCH:,}"
                )
            for index, (part, subject) in enumerate(zip(parts, places, strict=True)):
                batch = _batch_headers(parts, index)
                yield self._line(part, subject, known[subject], batch)
        seen.store(known)

    def _parts(self, line: EventLine) -> list[_Part]:
        event = copied_event(line, self._source)
        parts = apply_transform(self._transform, event, self._name)
        self.summary.count(event, parts)
        return [
            _Part(each, line, event.id if len(parts) == 1 else self._part_id(event, index))
            for index, each in enumerate(parts)
        ]

    def _part_id(self, event: CopiedEvent, index: int) -> str:
        return derive_id(event.id, f"{self._name}.{index}")

    def _subject(self, event: CopiedEvent) -> str:
        try:
            return self._subjects.log(check_name("aggregate", event.aggregate), event.aggregate_id)
        except EventStoreError as error:
            raise TransferError(f"position {event.position}: {error}") from error

    def _line(
        self, part: _Part, subject: str, aggregate: AggregateState, batch: dict[str, str]
    ) -> EventLine:
        before = aggregate.links.head
        headers = self._headers(part, before.version + 1)
        payload = part.event.payload
        chain = chain_value(before.chain, subject, headers, payload)
        aggregate.links = Links(Link(before.version + 1, chain))
        original = part.line.headers.get(Header.CHAIN, "")
        headers[Header.CHAIN] = chain
        if chain != original:
            headers[TRANSFORMED] = f"{self._name}; id={part.event.id}; chain={original}"
        headers.update(batch)
        _check(part, headers)
        _check_sealed(part)
        self._position += 1
        return EventLine.of(StoredMessage(subject, self._position, headers, payload))

    def _headers(self, part: _Part, version: int) -> dict[str, str]:
        event = part.event
        headers = {
            name: value
            for name, value in part.line.headers.items()
            if not name.startswith((BATCH_HEADERS, EXPECTED_HEADERS))
        }
        headers[Header.EVENT_ID] = headers[Header.MESSAGE_ID] = part.event_id
        headers[Header.EVENT_TYPE] = event.type
        headers[Header.AGGREGATE_ID] = event.aggregate_id
        headers[Header.AGGREGATE_VERSION] = str(version)
        headers[Header.SCHEMA_VERSION] = str(event.schema_version)
        headers[Header.DOMAIN] = self._subjects.domain
        for name in self._outdated_headers(part):
            headers.pop(name, None)
        if event.actor is None:
            headers.pop(Header.ACTOR, None)
        else:
            headers[Header.ACTOR] = event.actor
        return headers

    def _outdated_headers(self, part: _Part) -> Iterator[str]:
        """Headers that reveal of the original what the copy may have dropped."""
        event, line = part.event, part.line
        if event.actor != line.headers.get(Header.ACTOR):
            yield AUTHENTICATED_AS
        target = event.aggregate, event.aggregate_id
        if event.payload != line.payload or target != self._source.parse_log(line.subject):
            yield COMMAND_DIGEST


def _check_sealed(part: _Part) -> None:
    """Encryption is bound to the event: after a change nobody could decrypt its personal data."""
    headers, event = part.line.headers, part.event
    before = headers[Header.EVENT_ID], headers[Header.EVENT_TYPE], part.line.payload
    if PERSONAL in headers and (part.event_id, event.type, event.payload) != before:
        raise TransferError(
            f"position {event.position} ({event.type}) has personal data, which are encrypted for "
            "this event: leave its type and its payload unchanged, or drop it"
        )


def _check(part: _Part, headers: dict[str, str]) -> None:
    try:
        Envelope.from_headers(headers)
    except EventStoreError as error:
        raise TransferError(f"position {part.line.position} became invalid: {error}") from error


def _batch_headers(parts: Sequence[_Part], index: int) -> dict[str, str]:
    if len(parts) == 1:
        return {}
    headers = {
        NatsHeader.BATCH_ID: parts[0].line.headers.get(NatsHeader.BATCH_ID) or parts[0].event_id,
        NatsHeader.BATCH_SEQUENCE: str(index + 1),
    }
    return {**headers, NatsHeader.BATCH_COMMIT: "1"} if index == len(parts) - 1 else headers
