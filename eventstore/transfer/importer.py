"""Import: a file's events into a log that is empty, so that they stand there as they were.

Byte for byte the same are subjects, payloads and all headers in their order, with one exception:
`Nats-Expected-*`, which tell the server where in the log an event was to go, are made anew.
Batches stay batches. Positions are counted from 1, so they are the same wherever the log that was
exported had no holes (a log of this store has none); chain values do not depend on them.

The file is read twice: once to check all of its sums, and that its events are the store's: their
subjects, envelopes and chains, and headers that can be sent; and only then to import.
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
from eventstore.errors import DamagedFile, ImportRefused, IncompleteBatch, StreamMissing
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.jetstream.publish import MAX_BATCH
from eventstore.jetstream.vocabulary import EXPECTED_HEADERS
from eventstore.messages.encryption import refs_in
from eventstore.messages.subjects import Subjects
from eventstore.store.key_bucket import KeyBucket
from eventstore.store.log import StoredLog
from eventstore.store.reader import BatchCheck
from eventstore.transfer.checker import LineChains, unsendable, without
from eventstore.transfer.fence import Fence
from eventstore.transfer.file_format import EventLine
from eventstore.transfer.file_reader import FileReader, open_export
from eventstore.transfer.sender import Sender, SendUnit, check_unit

__all__ = ["ImportSummary", "Progress", "import_log", "units"]

_REPORTED = 500  # every so many events

Progress = Callable[[str, int, int], None]
"""Takes what is done ("checking", "comparing", "importing"), how far, and how many events."""


class ImportSummary(msgspec.Struct, frozen=True):
    """How many events the log holds now, and how many of them stood there before.

    `stripped` is how many have lost headers that cannot be sent.
    """

    events: int
    before: int
    stripped: int = 0


class _Checked(msgspec.Struct):
    """What the first pass has found: what keys are filed under, and what `ImportSummary` says."""

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
    """Import a file into the log of its domain; the stream is made if it is missing.

    The log must be empty. With `resume` it may hold what the file begins with, byte for byte, and
    the import goes on after it. Until it is whole nobody else can write to the log, and no service
    starts on it; an import that was interrupted is to be resumed.

    Personal data are encrypted in the file, and their keys are not part of it. Where keys are
    missing here nobody could read the log, so that it is refused, unless `without_keys` says that
    the bucket of keys is brought later, before anything is appended.

    A file with messages that are not the store's, or were changed, is refused, unless `foreign`
    says that it is to be imported as it is; no reader will take these for events. A message with
    headers that cannot be sent, because a server would refuse them, act on them or change them, is
    refused too; with `foreign` it is imported without these headers, and counted.

    Raises `DamagedFile`, `EventTooLarge`, `StreamDrift` and `ImportRefused`, for a log that is not
    empty or another than the file's, or for keys that are missing, before anything is imported;
    later `ImportRefused` where another import takes over, `TransferError` for an id that stands
    twice, or a `ClientError`.
    """
    report = progress or _silent
    with WorkingSet() as seen:
        chains = None if foreign else LineChains(subjects, seen)
        checked = await _check(path, subjects, client.max_payload, report, chains)
    count = checked.events
    if not without_keys:
        await _check_keys(client, subjects, checked.keys)
    fence = Fence(client, subjects, settings)
    stands, fenced = await fence.state()
    if stands and not resume:
        begun = "holds an import that is not whole" if fenced else "is not empty"
        raise ImportRefused(
            f"the log {subjects.log_stream} {begun}: {stands:,} events stand there. Import into "
            "an empty log, or go on with --continue where they are those the file begins with"
        )
    with open_export(path) as file:
        events = FileReader(path, file, max_payload=client.max_payload).events()
        if checked.stripped:
            events = (without(event, unsendable(event.headers)) for event in events)
        before = await _compare(client, subjects, events, count, report) if stands else 0
        last = await fence.take()
        if last != before:
            if not fenced:
                await fence.open()
            raise ImportRefused(f"somebody else has just written to {subjects.log_stream}")
        async with Sender(client, fence, before) as sending:
            for unit in units(events, before):
                await sending.put(unit)
                if unit.last % _REPORTED < len(unit.events):
                    report("importing", sending.position, count)
            await sending.finish()
        report("importing", sending.position, count)
        await fence.open()
    return ImportSummary(count, before, checked.stripped)


def units(events: Iterable[EventLine], before: int = 0) -> Iterator[SendUnit]:
    """The events as what is to be recorded at once: single ones, and whole batches.

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
        raise IncompleteBatch(f"position {batch[-1].position}: the last batch is not whole")


async def _check(
    path: Path,
    subjects: Subjects,
    max_payload: int,
    report: Progress,
    chains: LineChains | None,
) -> _Checked:
    """See that all of the file is good for this log, and can be sent."""
    checked = _Checked()
    with open_export(path) as file:
        reader = FileReader(path, file, max_payload=max_payload)
        if reader.first.domain != subjects.domain:
            raise ImportRefused(
                f"{path} is of domain {reader.first.domain}, and this is {subjects.domain}: "
                "`copy --as` makes a file for another domain"
            )
        try:
            for unit in units(_of_domain(reader, path, subjects, chains, checked)):
                check_unit(unit, max_payload)
                checked.keys.update(*(refs_in(event.headers) for event in unit.events))
                if unit.last % _REPORTED < len(unit.events):
                    report("checking", unit.last, reader.first.last)
                    await asyncio.sleep(0)  # others, and Ctrl-C, have their turn
        except IncompleteBatch as error:
            raise DamagedFile(str(path), reader.line, str(error)) from error
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
            f"the file has personal data of {len(missing):,} subjects whose keys are not in "
            f"{subjects.key_bucket} here: bring that bucket first, or say that it comes later with "
            "--without-keys"
        )


def _of_domain(
    reader: FileReader,
    path: Path,
    subjects: Subjects,
    chains: LineChains | None,
    checked: _Checked,
) -> Iterator[EventLine]:
    prefix = f"{subjects.domain}.log."
    for event in reader.events():
        if not event.subject.startswith(prefix) or event.subject.count(".") != 3:
            raise DamagedFile(str(path), reader.line, f"{event.subject} is no subject of the log")
        problem = None if chains is None else chains.follow(event).problem
        if problem is not None:
            raise DamagedFile(
                str(path),
                reader.line,
                f"position {event.position} ({event.subject}) is no event of this store: "
                f"{problem.text}; `copy --without-foreign` leaves such out, and `import --foreign` "
                "takes the file as it is",
            )
        names = unsendable(event.headers)
        if names and chains is not None:
            raise DamagedFile(
                str(path),
                reader.line,
                f"position {event.position} ({event.subject}) has headers that cannot be sent as "
                f"they are, {_shown(names)}; `import --foreign` leaves such headers out",
            )
        checked.stripped += bool(names)
        yield without(event, names) if names else event


async def _compare(
    client: Client,
    subjects: Subjects,
    events: Iterator[EventLine],
    count: int,
    report: Progress,
) -> int:
    """See that the log is what the file begins with; how many events that are."""
    position = 0
    async with aclosing(StoredLog(client, subjects.log_stream).pages()) as pages:
        async for page in pages:
            for message in page.messages:
                position += 1
                event = next(events, None)
                if event is None or not _is_same(message, position, event):
                    raise ImportRefused(
                        f"position {message.sequence} of {subjects.log_stream} is not what the "
                        "file has there: it is another log, or goes on differently"
                    )
            report("comparing", position, count)
    return position


def _is_same(message: StoredMessage, position: int, event: EventLine) -> bool:
    return (
        message.sequence == position
        and message.subject == event.subject
        and message.payload == event.payload
        and _kept(message.headers) == _kept(event.headers)
    )


def _kept(headers: dict[str, str]) -> list[tuple[str, str]]:
    return [item for item in headers.items() if not item[0].startswith(EXPECTED_HEADERS)]


def _shown(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:3]) + (", …" if len(names) > 3 else "")


def _silent(what: str, done: int, total: int) -> None:
    pass
