"""Export: the whole log as it is stored, up to where it ends when the export begins.

Only the log: commands, outcomes, parked messages and configuration are not part of it. Nothing is
decoded and nothing is verified: foreign messages are exported as they are, so that nothing is lost,
and `import` refuses them unless told otherwise. What is exported of a message is its subject,
position, payload and headers in their order; of the headers what every reader here sees: values
without the space around them, and the last one where a name stands twice.
"""

from __future__ import annotations

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
from eventstore.transfer.file_reader import FileReader, State, check_file
from eventstore.transfer.file_writer import FileWriter, is_there, part_of, written

__all__ = ["ExportSummary", "Progress", "export_log", "export_to"]

_FIRST_BYTES = 4096  # more than any first line has

Progress = Callable[[int, int], None]
"""Takes how many events are done, and about how many there are."""


class ExportSummary(msgspec.Struct, frozen=True):
    """How many events the file holds, the position of the last, and the sum of all lines."""

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
    """Write the log to a file, which must not be there; it is FILE.part until it is complete.

    With `resume` an export that was interrupted goes on after the last whole part of FILE.part,
    up to the position at which the log ended when it was begun; a complete file stays as it is.
    Raises `TransferError`, `DamagedFile` for a part that was changed, `StreamMissing`, or a
    `ClientError`.
    """
    if resume and is_there(path):
        return await _complete(path, subjects, client.max_payload)
    log = StoredLog(client, subjects.log_stream)
    end = await log.end()
    with written(path, resume=resume) as file:
        found, state = await _begun(part_of(path), file, subjects, client.max_payload)
        writer = FileWriter(file, state)
        if state.is_complete:  # but for its name
            return ExportSummary(writer.events, writer.position, state.sums.value)
        file.seek(state.offset)
        file.truncate()
        first = _first_line(subjects, end) if found is None else found
        if found is None:
            await writer.begin(first)
        await _write(log, writer, first, state.last, progress)
        return ExportSummary(writer.events, writer.position, await writer.end())


async def export_to(
    client: Client, subjects: Subjects, stream: BinaryIO, progress: Progress | None = None
) -> ExportSummary:
    """Write the log to a pipe; raises as `export_log` does."""
    log = StoredLog(client, subjects.log_stream)
    first = _first_line(subjects, await log.end())
    writer = FileWriter(stream, State(FileSums()))
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
    # What stands at the end of the part is read again: is it still the same log?
    after = 0 if last is None else last.position - 1
    if after >= first.last:
        return
    with suppress(IncompleteBatch):  # what the log ends with is exported as it is
        async with aclosing(log.pages(after=after, until=first.last)) as pages:
            async for page in pages:
                for message in page.messages:
                    event = EventLine.of(message)
                    if last is None:
                        await writer.add(event)
                    elif event != last:
                        raise TransferError(
                            f"position {last.position} holds another event than the file's last: "
                            "the file is of another log; remove it, and export anew"
                        )
                    else:
                        last = None
                if progress is not None:
                    progress(writer.position, first.last)


async def _complete(path: Path, subjects: Subjects, max_payload: int) -> ExportSummary:
    """What a file holds that has been completed before."""
    first, state = await check_file(path, max_payload=max_payload)
    _check_same(path, first, subjects)
    return ExportSummary(state.events, state.last.position if state.last else 0, state.sums.value)


async def _begun(
    part: Path, file: BinaryIO, subjects: Subjects, max_payload: int
) -> tuple[FirstLine | None, State]:
    """The first line of the part that is there, if it is whole, and how far the rest is."""
    try:
        reader = FileReader(part, file, max_payload=max_payload)
    except DamagedFile:
        if file.seek(0, SEEK_END) > _FIRST_BYTES:
            raise
        return None, State(FileSums())
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
        raise TransferError(f"{path} is a copy, and no export: remove it, and copy anew")
    if first.domain != subjects.domain:
        raise TransferError(f"{path} is of domain {first.domain}, and this is {subjects.domain}")
