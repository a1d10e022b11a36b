"""Copy and transform: a file becomes another, with events renamed, split, dropped or masked.

Events count their versions anew in their aggregates, positions are counted from 1, and all chain
values are computed anew, so that the result, imported, passes verification. Every event whose
chain value is another than before says so in a header: `X-Transformed: BY; id=...; chain=...`, by
what, and which event it was. The file's first line names the transformation too.

Ids are kept where one event becomes one; the parts of a split get ids derived from the event's.
What names a dropped or split event as its cause goes on naming it. Messages that are not the
store's stop the copy, or are left out where that is asked for; an event that was changed and then
built upon stops it always, for what it said is lost. What an atomic batch leaves
stays one batch, and so do the parts of a split.

The original chain value in `X-Transformed` is a hash over the original payload too: it does not
show what was masked, but whoever can guess that can see that the guess is right.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from eventstore.audit.working_set import Aggregate, WorkingSet
from eventstore.errors import EventStoreError, TransferError
from eventstore.jetstream.publish import MAX_BATCH
from eventstore.jetstream.vocabulary import BATCH_HEADERS, EXPECTED_HEADERS, NatsHeader
from eventstore.messages.chain import chain_value
from eventstore.messages.encryption import PERSONAL
from eventstore.messages.envelope import (
    AUTHENTICATED_AS,
    COMMAND_DIGEST,
    Envelope,
    Header,
    derive_id,
    format_timestamp,
    utc_now,
)
from eventstore.messages.subjects import Subjects, check_name
from eventstore.store.chain_links import Link, Links
from eventstore.transfer.checker import LineChains
from eventstore.transfer.file_format import EventLine, FileSums, FirstLine, Transformed
from eventstore.transfer.file_reader import FileReader, State, check_file, open_export
from eventstore.transfer.file_writer import FileWriter, written
from eventstore.transfer.importer import units
from eventstore.transfer.sender import SendUnit

__all__ = ["TRANSFORMED", "CopiedEvent", "CopySummary", "Transform", "copy"]

TRANSFORMED = "X-Transformed"
"""The header that says by what an event was changed, and which one it was."""

_AT_ONCE = 1_000  # events; the states of their aggregates are looked up together


class CopiedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way from one file to another; `replace` makes a changed one.

    `payload` is as stored, `data` the same read as JSON. `id`, `position`, `version` and
    `timestamp` are what they were, and cannot be replaced.
    """

    aggregate: str
    aggregate_id: str
    type: str
    schema_version: int
    payload: bytes
    actor: str | None
    id: str
    position: int
    version: int
    timestamp: str

    @property
    def data(self) -> Any:
        """The payload, read as JSON; raises `msgspec.DecodeError` where it is none."""
        return msgspec.json.decode(self.payload or b"{}")

    def replace(self, **changes: Any) -> CopiedEvent:
        """The event with other values; `data` in place of `payload` is written as JSON.

        Raises `TypeError` for what it cannot have another value of.
        """
        if "data" in changes:
            changes["payload"] = msgspec.json.encode(changes.pop("data"))
        if fixed := changes.keys() & _FIXED:
            raise TypeError(f"an event's {', '.join(sorted(fixed))} cannot be replaced")
        return msgspec.structs.replace(self, **changes)


_FIXED = {"id", "position", "version", "timestamp"}
_IDENTITY = ("type", "aggregate", "aggregate_id")
_CONTENT = ("payload", "schema_version", "actor")

Transform = Callable[[CopiedEvent], CopiedEvent | Iterable[CopiedEvent] | None]
"""Gives what an event becomes: itself, another, several, or none."""


class CopySummary(msgspec.Struct, kw_only=True):
    """What became of the events: how many there were and are, and by type what was done to them.

    An event that was renamed and masked counts as both. `foreign` is how many messages that are not
    the store's were left out.
    """

    before: int = 0
    after: int = 0
    foreign: int = 0
    renamed: Counter[str] = msgspec.field(default_factory=Counter)
    split: Counter[str] = msgspec.field(default_factory=Counter)
    dropped: Counter[str] = msgspec.field(default_factory=Counter)
    masked: Counter[str] = msgspec.field(default_factory=Counter)

    def count(self, event: CopiedEvent, parts: Sequence[CopiedEvent]) -> None:
        """Take note of what an event became."""
        self.before += 1
        self.after += len(parts)
        if not parts:
            self.dropped[event.type] += 1
        elif len(parts) > 1:
            self.split[event.type] += 1
        else:
            self.renamed[event.type] += _differs(event, parts[0], _IDENTITY)
            self.masked[event.type] += _differs(event, parts[0], _CONTENT)


class _Part(msgspec.Struct, frozen=True):
    """What is to be written, and what it was made of."""

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
    """Write what `transform` makes of the events of one file to another, which must not be there.

    `name` is what the transformation is called in the copy (its module and name), `domain` the
    copy's, where it is to be another. Raises `DamagedFile`, and `TransferError` naming the
    position where `transform` fails or gives what cannot stand in a log, and of what is not the
    store's, unless that is a foreign message and they are to be left out: `without_foreign`.
    """
    first, state = await check_file(source)
    called = name or f"{transform.__module__}:{transform.__qualname__}"
    if not called.isprintable():
        raise TransferError(f"a transformation cannot be called {called[:80]!r}")
    subjects = Subjects(domain or first.domain)
    made = _Copy(first.domain, subjects, transform, called)
    with ExitStack() as stack:
        file = stack.enter_context(open_export(source))
        out = stack.enter_context(written(target, keep=False))
        seen, known = stack.enter_context(WorkingSet()), stack.enter_context(WorkingSet())
        writer = FileWriter(out, State(FileSums()))
        await writer.begin(_first_line(first, state, subjects, called))
        chains = LineChains(Subjects(first.domain), known)
        lines = FileReader(source, file).events()
        own = made.own(lines, chains, without_foreign=without_foreign)
        for some in _together(units(own)):
            for line in made.lines(some, seen):
                await writer.add(line)
            if progress is not None:
                progress(made.copied.before, state.events)
        await writer.end()
    return made.copied


def _together(several: Iterable[SendUnit]) -> Iterator[list[SendUnit]]:
    some: list[SendUnit] = []
    count = 0
    for unit in several:
        some.append(unit)
        count += len(unit.events)
        if count >= _AT_ONCE:
            yield some
            some, count = [], 0
    if some:
        yield some


def _first_line(first: FirstLine, state: State, subjects: Subjects, name: str) -> FirstLine:
    now = format_timestamp(utc_now())
    own = Transformed(by=name, time=now, events=state.events, source=state.sums.value)
    return msgspec.structs.replace(
        first,
        domain=subjects.domain,
        stream=subjects.log_stream,
        time=now,
        transformed=[*first.transformed, own],
    )


class _Copy:
    """Makes lines of units, one after another."""

    def __init__(self, source: str, subjects: Subjects, transform: Transform, name: str) -> None:
        self.copied = CopySummary()
        self._source = Subjects(source)
        self._subjects = subjects
        self._transform = transform
        self._name = name
        self._position = 0

    def own(
        self, lines: Iterable[EventLine], chains: LineChains, *, without_foreign: bool
    ) -> Iterator[EventLine]:
        """The lines that are the store's events; raises `TransferError` for others."""
        for line in lines:
            problem, confirmed = chains.follow(line)[1:]
            if confirmed is not None:
                raise TransferError(
                    f"position {line.position} goes back to position {confirmed.position}, which "
                    "was changed, or something before it is missing: `audit verify` says more"
                )
            if problem is None:
                yield line
            elif without_foreign:
                self.copied.foreign += 1
            else:
                raise TransferError(
                    f"position {line.position} cannot be copied: {problem.text}; "
                    "--without-foreign leaves out what is no event of the store"
                )

    def lines(self, some: Sequence[SendUnit], seen: WorkingSet) -> Iterator[EventLine]:
        """The lines that units become; what must be known of their aggregates is looked up."""
        transformed = [
            [part for line in unit.events for part in self._parts(line)] for unit in some
        ]
        subjects = [[self._subject(part.event) for part in parts] for parts in transformed]
        known = seen.aggregates(itertools.chain.from_iterable(subjects))
        for parts, places in zip(transformed, subjects, strict=True):
            if len(parts) > MAX_BATCH:
                raise TransferError(
                    f"position {parts[0].line.position}: a batch would have {len(parts):,} events; "
                    f"{MAX_BATCH:,} are the most"
                )
            for index, (part, subject) in enumerate(zip(parts, places, strict=True)):
                batch = _batch_headers(parts, index)
                yield self._line(part, subject, known[subject], batch)
        seen.keep(known)

    def _parts(self, line: EventLine) -> list[_Part]:
        event = _copied_event(line, self._source)
        try:
            made = self._transform(event)
            several = _several(made)
        except Exception as error:
            raise TransferError(
                f"position {line.position} ({event.type}): {self._name} failed: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not all(isinstance(each, CopiedEvent) for each in several):
            raise TransferError(
                f"position {line.position} ({event.type}): {self._name} gave {made!r:.80}, which "
                "is no CopiedEvent, no list of them and not None"
            )
        self.copied.count(event, several)
        return [
            _Part(each, line, event.id if len(several) == 1 else self._part_id(event, index))
            for index, each in enumerate(several)
        ]

    def _part_id(self, event: CopiedEvent, index: int) -> str:
        return derive_id(event.id, f"{self._name}.{index}")

    def _subject(self, event: CopiedEvent) -> str:
        try:
            return self._subjects.log(check_name("aggregate", event.aggregate), event.aggregate_id)
        except EventStoreError as error:
            raise TransferError(f"position {event.position}: {error}") from error

    def _line(
        self, part: _Part, subject: str, aggregate: Aggregate, batch: dict[str, str]
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
        return EventLine.made(self._position, subject, headers, payload)

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
        for name in self._untrue_of(part):
            headers.pop(name, None)
        if event.actor is None:
            headers.pop(Header.ACTOR, None)
        else:
            headers[Header.ACTOR] = event.actor
        return headers

    def _untrue_of(self, part: _Part) -> Iterator[str]:
        """Headers that say of the original what may have been taken out of the copy."""
        event, line = part.event, part.line
        if event.actor != line.headers.get(Header.ACTOR):
            yield AUTHENTICATED_AS
        target = event.aggregate, event.aggregate_id
        if event.payload != line.payload or target != self._source.parse_log(line.subject):
            yield COMMAND_DIGEST


def _several(made: Any) -> list[Any]:
    if made is None:
        return []
    return [*made] if isinstance(made, Iterable) else [made]


def _check_sealed(part: _Part) -> None:
    """Personal data are bound to their event; changed, nobody could read it any more."""
    headers, event = part.line.headers, part.event
    before = headers[Header.EVENT_ID], headers[Header.EVENT_TYPE], part.line.payload
    if PERSONAL in headers and (part.event_id, event.type, event.payload) != before:
        raise TransferError(
            f"position {event.position} ({event.type}) holds personal data, which are encrypted "
            "for this event: leave its type and its payload as they are, or drop it"
        )


def _copied_event(line: EventLine, subjects: Subjects) -> CopiedEvent:
    try:
        aggregate, aggregate_id = subjects.parse_log(line.subject)
        envelope = Envelope.from_headers(line.headers)
    except EventStoreError as error:
        raise TransferError(f"position {line.position} cannot be copied: {error}") from error
    return CopiedEvent(
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        type=envelope.type,
        schema_version=envelope.schema_version,
        payload=line.payload,
        actor=envelope.actor,
        id=envelope.identity.id,
        position=line.position,
        version=envelope.version or 0,
        timestamp=line.headers[Header.TIMESTAMP],
    )


def _check(part: _Part, headers: dict[str, str]) -> None:
    try:
        Envelope.from_headers(headers)
    except EventStoreError as error:
        raise TransferError(f"position {part.line.position} became illegal: {error}") from error


def _batch_headers(parts: Sequence[_Part], index: int) -> dict[str, str]:
    if len(parts) == 1:
        return {}
    headers = {
        NatsHeader.BATCH_ID: parts[0].line.headers.get(NatsHeader.BATCH_ID) or parts[0].event_id,
        NatsHeader.BATCH_SEQUENCE: str(index + 1),
    }
    return {**headers, NatsHeader.BATCH_COMMIT: "1"} if index == len(parts) - 1 else headers


def _differs(one: CopiedEvent, other: CopiedEvent, names: Sequence[str]) -> bool:
    return any(getattr(one, name) != getattr(other, name) for name in names)
