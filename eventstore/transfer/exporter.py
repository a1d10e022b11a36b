"""Export: the complete log as it is stored, up to its end when the export begins.

Commands, outcomes, parked messages and configuration are not exported. Nothing is decoded or
verified: foreign messages are exported unchanged, so that nothing is lost, and `import` refuses
them by default. Of a message its subject, position, payload and headers in their order are
exported; of the headers what every reader here sees: values without surrounding space, and the last
one if a name occurs twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventstore.client.client import Client
from eventstore.errors import DamagedFile, IncompleteBatch, TransferError
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.subjects import Subjects
from eventstore.store.log import StoredLog
from eventstore.transfer.file_format import EventLine, FileSums, FirstLine
from eventstore.transfer.file_reader import FileReader, FileState, check_file
from eventstore.transfer.file_writer import FileWriter, part_of, partial_file

_MAX_FIRST_LINE = 4096  # bytes

Progress = Callable[[int, int], None]
"""Is called with the number of exported events, and the approximate total."""


class ExportSummary(msgspec.Struct, frozen=True):
    """The number of events in the file, the position of the last, and the checksum of all lines."""

    events: int
    position: int
    sum: str


async def export_log(
    client: Client,
    subjects: Subjects,
    path: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> ExportSummary:
    """Write the log to a new file, which is FILE.part until it is complete.

    With `resume` an interrupted export continues after the last complete member of FILE.part, up to
    the position at which the log ended when the export began; a complete file stays unchanged.
    Raises `TransferError`, `DamagedFile` for a FILE.part that was changed, `StreamMissing`, or a
    `ClientError`.
    """
    if resume and await asyncio.to_thread(path.exists):
        return await _summary_of(path, subjects, client.max_payload)
    log = StoredLog(client, subjects.log_stream)
    end = await log.end()
    with partial_file(path, resume=resume) as file:
        found, state = await _resume_point(part_of(path), file, subjects, client.max_payload)
        writer = FileWriter(file, state)
        if state.is_complete:  # only its name is missing
            return ExportSummary(writer.events, writer.position, state.sums.value)
        file.seek(state.offset)
        file.truncate()
        if found is None:
            found = _first_line(subjects, end)
            await writer.begin(found)
        await _write(log, writer, found, state.last, progress)
        return ExportSummary(writer.events, writer.position, await writer.end())


async def export_to(
    client: Client, subjects: Subjects, stream: BinaryIO, progress: Progress | None = None
) -> ExportSummary:
    """Write the log to a pipe; raises as `export_log` does."""
    log = StoredLog(client, subjects.log_stream)
    first = _first_line(subjects, await log.end())
    writer = FileWriter(stream, FileState(FileSums()))
    await writer.begin(first)
    await _write(log, writer, first, None, progress)
    return ExportSummary(writer.events, writer.position, await writer.end())


async def _write(
    log: StoredLog,
    writer: FileWriter,
    first: FirstLine,
    last: EventLine | None,
    progress: Progress | None,
) -> None:
    # The last event of the file is read again, to see whether it is still the same log.
    after = 0 if last is None else last.position - 1
    if after >= first.last:
        return
    with suppress(IncompleteBatch):  # at the end of the log it is exported as it is
        async with aclosing(log.pages(after=after, until=first.last)) as pages:
            async for page in pages:
                for message in page.messages:
                    event = EventLine.of(message)
                    if last is None:
                        await writer.add(event)
                    elif event != last:
                        raise TransferError(
                            f"position {last.position} holds another event than the file's last: "
                            "the file is of another log; remove it, and export again"
                        )
                    else:
                        last = None
                if progress is not None:
                    progress(writer.position, first.last)


async def _summary_of(path: Path, subjects: Subjects, max_payload: int) -> ExportSummary:
    """The summary of a file that is complete already."""
    first, state = await check_file(path, max_payload=max_payload)
    _check_same(path, first, subjects)
    return ExportSummary(state.events, state.last.position if state.last else 0, state.sums.value)


async def _resume_point(
    part: Path, file: BinaryIO, subjects: Subjects, max_payload: int
) -> tuple[FirstLine | None, FileState]:
    """The first line of FILE.part, None if it is incomplete, and the state to resume from."""
    try:
        reader = FileReader(part, file, max_payload=max_payload)
    except DamagedFile:
        if file.seek(0, SEEK_END) > _MAX_FIRST_LINE:
            raise
        return None, FileState(FileSums())
    _check_same(part, reader.first, subjects)
    await reader.to_end()
    return reader.first, reader.state


def _first_line(subjects: Subjects, end: int) -> FirstLine:
    return FirstLine(
        domain=subjects.domain,
        stream=subjects.log_stream,
        time=format_timestamp(utc_now()),
        first=min(1, end),
        last=end,
    )


def _check_same(path: Path, first: FirstLine, subjects: Subjects) -> None:
    if first.transformed:
        raise TransferError(f"{path} is a copy, not an export: remove it, and copy again")
    if first.domain != subjects.domain:
        raise TransferError(
            f"{path} is of domain {first.domain}, and this is {subjects.domain}: name another file"
        )
