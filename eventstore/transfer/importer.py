"""Import: records a file's events in an empty log, exactly as they were.

Subjects, payloads and all headers in their order stay byte for byte the same, with one exception:
`Nats-Expected-*`, which name an event's expected position in the log, are new. Batches stay
batches. Positions are counted from 1, so they are the same if the exported log had no gaps (a log
of this store has none); chain values do not depend on them.

The file is read twice: first to check its checksums, and that its events are the store's (their
subjects, envelopes and chains, and that their headers can be sent); only then to import it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path

import msgspec

from eventstore.audit.working_set import WorkingSet
from eventstore.client.client import Client
from eventstore.config import StreamSettings
from eventstore.errors import ImportRefused, IncompleteBatch, StreamMissing
from eventstore.jetstream.publish import MAX_BATCH
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import EXPECTED_HEADERS
from eventstore.messages.encryption import refs_in
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import counted
from eventstore.store.batches import BatchCheck
from eventstore.store.key_bucket import KeyBucket
from eventstore.store.log import StoredLog
from eventstore.transfer.checker import LineChains, unsendable, without_headers
from eventstore.transfer.fence import Fence
from eventstore.transfer.file_format import EventLine
from eventstore.transfer.file_reader import FileReader, open_export
from eventstore.transfer.sender import Sender, SendUnit, check_unit

_REPORT_EVENTS = 500

Progress = Callable[[str, int, int], None]
"""Is called with the step ("checking", "comparing", "importing"), how far it is, and the total."""


class ImportSummary(msgspec.Struct, frozen=True):
    """The number of events in the log now, and how many of them were recorded before.

    `stripped` is how many events lost headers that cannot be sent.
    """

    events: int
    before: int
    stripped: int = 0


class _FileCheck(msgspec.Struct):
    """The findings of the first pass: the references of keys, and counts for `ImportSummary`."""

    keys: set[str] = set()
    events: int = 0
    stripped: int = 0


async def import_log(
    client: Client,
    subjects: Subjects,
    settings: StreamSettings,
    path: Path,
    *,
    resume: bool = False,
    without_keys: bool = False,
    foreign: bool = False,
    progress: Progress | None = None,
) -> ImportSummary:
    """Import a file into the log of its domain; a missing stream is created.

    The log must be empty. With `resume` it may contain the first events of the file, byte for byte,
    and the import continues after them. Until it is complete nobody else can write to the log, and
    no service starts on it; an interrupted import must be resumed.

    Personal data are encrypted in the file, which does not contain their keys. If keys are missing
    here, nobody could read the log, and the file is refused, unless `without_keys` promises that
    the key bucket is restored later, before anything is appended.

    A file with messages that are not the store's, or were changed, is refused, unless `foreign`
    allows to import it as it is; no reader will take these for events. A message with headers that
    cannot be sent, because a server would refuse them, act on them or change them, is refused, too;
    with `foreign` it is imported without these headers, and counted.

    Raises `DamagedFile`, `EventTooLarge`, `StreamDrift` and `ImportRefused` (the log is not empty,
    or is not the file's, or keys are missing) before anything is imported; later `ImportRefused` if
    another import takes over, `TransferError` for an id that occurs twice, or a `ClientError`.
    """
    report = progress or (lambda *_: None)
    with WorkingSet() as seen:
        chains = None if foreign else LineChains(subjects, seen)
        checked = await _check(path, subjects, client.max_payload, report, chains)
    count = checked.events
    if not without_keys:
        await _check_keys(client, subjects, checked.keys)
    fence = Fence(client, subjects, settings)
    recorded, fenced = await fence.state()
    if recorded and not resume:
        state = "holds an incomplete import" if fenced else "is not empty"
        raise ImportRefused(
            f"the log {subjects.log_stream} {state}: it has {counted(recorded, 'event')}. Import "
            "into an empty log, or resume with --continue if they are the first events of the file"
        )
    with open_export(path) as file:
        events = FileReader(path, file, max_payload=client.max_payload).events()
        if checked.stripped:
            events = (without_headers(event, unsendable(event.headers)) for event in events)
        before = await _compare(client, subjects, events, count, report) if recorded else 0
        last = await fence.take()
        if last != before:
            if not fenced:
                await fence.open()
            raise ImportRefused(
                f"somebody else has just written to {subjects.log_stream}: stop what writes to it, "
                "and import into an empty log"
            )
        async with Sender(client, fence, before) as sender:
            for unit in units(events, before):
                await sender.put(unit)
                if unit.last % _REPORT_EVENTS < len(unit.events):
                    report("importing", sender.position, count)
            await sender.finish()
        report("importing", sender.position, count)
        await fence.open()
    return ImportSummary(count, before, checked.stripped)


def units(events: Iterable[EventLine], before: int = 0) -> Iterator[SendUnit]:
    """The events in units that are recorded atomically: single ones, and complete batches.

    `before` is the position before the first. Raises `IncompleteBatch`.
    """
    check = BatchCheck(anywhere=False)
    batch: list[EventLine] = []
    position = before
    for event in events:
        position += 1
        check.see(event.headers, event.position)
        batch.append(event)
        if len(batch) > MAX_BATCH:
            raise IncompleteBatch(
                f"position {event.position}: a batch has more than {MAX_BATCH:,} events"
            )
        if not check.is_open:
            size = sum(len(each.text or each.binary or "") for each in batch)
            yield SendUnit(batch, position, size + 1_000 * len(batch))
            batch = []
    if batch:
        raise IncompleteBatch(f"position {batch[-1].position}: the last batch is incomplete")


async def _check(
    path: Path,
    subjects: Subjects,
    max_payload: int,
    report: Progress,
    chains: LineChains | None,
) -> _FileCheck:
    """Check that the file belongs to this log, and that all of it can be sent."""
    checked = _FileCheck()
    with open_export(path) as file:
        reader = FileReader(path, file, max_payload=max_payload)
        if reader.first.domain != subjects.domain:
            raise ImportRefused(
                f"{path} is of domain {reader.first.domain}, and this is {subjects.domain}: "
                "`copy --as` makes a file for another domain"
            )
        try:
            for unit in units(_of_domain(reader, subjects, chains, checked)):
                check_unit(unit, max_payload)
                checked.keys.update(*(refs_in(event.headers) for event in unit.events))
                if unit.last % _REPORT_EVENTS < len(unit.events):
                    report("checking", unit.last, reader.first.last)
                    await asyncio.sleep(0)  # let other tasks and Ctrl-C run
        except IncompleteBatch as error:
            raise reader.refused(str(error)) from error
        checked.events = reader.state.events
        return checked


async def _check_keys(client: Client, subjects: Subjects, keys: set[str]) -> None:
    bucket = KeyBucket(client, subjects)
    try:
        missing = [ref for ref in keys if not await bucket.exists(ref)]
    except StreamMissing:
        missing = list(keys)
    if missing:
        raise ImportRefused(
            f"the file has personal data of {counted(len(missing), 'subject')} whose keys are not "
            f"in {subjects.key_bucket} here: restore that bucket first, or say that it comes later "
            "with --without-keys"
        )


def _of_domain(
    reader: FileReader,
    subjects: Subjects,
    chains: LineChains | None,
    checked: _FileCheck,
) -> Iterator[EventLine]:
    prefix = f"{subjects.domain}.log."
    for event in reader.events():
        if not event.subject.startswith(prefix) or event.subject.count(".") != 3:
            raise reader.refused(f"{event.subject} is not a subject of the log")
        problem = None if chains is None else chains.follow(event).problem
        if problem is not None:
            raise reader.refused(
                f"position {event.position} ({event.subject}) is not an event of this store: "
                f"{problem.text}; `copy --without-foreign` leaves such messages out, and "
                "`import --foreign` takes the file as it is"
            )
        names = unsendable(event.headers)
        if names and chains is not None:
            raise reader.refused(
                f"position {event.position} ({event.subject}) has headers that cannot be sent "
                f"unchanged, {_listed(names)}; `import --foreign` leaves such headers out"
            )
        checked.stripped += bool(names)
        yield without_headers(event, names) if names else event


async def _compare(
    client: Client,
    subjects: Subjects,
    events: Iterator[EventLine],
    count: int,
    report: Progress,
) -> int:
    """Check that the log is a prefix of the file; returns its number of events."""
    position = 0
    async with aclosing(StoredLog(client, subjects.log_stream).pages()) as pages:
        async for page in pages:
            for message in page.messages:
                position += 1
                event = next(events, None)
                is_next = message.sequence == position
                if event is None or not is_next or _comparable(message) != _comparable(event):
                    raise ImportRefused(
                        f"position {message.sequence} of {subjects.log_stream} differs from the "
                        "file: it is another log, or has other events after that"
                    )
            report("comparing", position, count)
    return position


def _comparable(event: StoredMessage | EventLine) -> tuple[object, ...]:
    headers = [item for item in event.headers.items() if not item[0].startswith(EXPECTED_HEADERS)]
    return event.subject, event.payload, headers


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:3]) + (", …" if len(names) > 3 else "")
