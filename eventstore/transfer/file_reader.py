"""Reads an export file: checks it line by line, in bounded memory, as far as it is complete."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventstore.errors import DamagedFile, TransferError
from eventstore.messages.text import counted
from eventstore.transfer.file_format import EventLine, FileEnd, FileSums, FirstLine, Line

_CHUNK = 64 * 1024
_MAX_LINE = 32 * 1024 * 1024
_MAX_LINES = 10_000  # of one member; the writer puts about 1,000 events into it
_MAX_BEFORE_LAST = 16 * 1024 * 1024  # bytes; the writer ends a member with the line beyond 8 MiB
_GZIP = 31
_TRUNCATED = "it is truncated"


class _Member:
    """One gzip member: iterate over its lines once; then `end` and `problem` are set.

    `end` is its end in the file, `rest` what was read of the file beyond it. At most one line of
    `max_line` bytes is in memory, however well the data is compressed.
    """

    def __init__(self, file: BinaryIO, data: bytes, max_line: int) -> None:
        self.end = 0
        self.rest = b""
        self.problem = ""
        self._file = file
        self._data = data
        self._max_line = max_line
        self._size = self._lines = 0

    def __iter__(self) -> Iterator[bytes]:
        line = bytearray()
        for text in self._texts():
            first, *others = text.split(b"\n")
            line += first
            for other in others:
                yield bytes(line)
                self._lines += 1
                line = bytearray(other)
            if self._is_too_large(len(line), len(text)):
                return
        if line and not self.problem:
            self.problem = "the line has no end"

    def _texts(self) -> Iterator[bytes]:
        """The uncompressed data, in pieces."""
        decoder = zlib.decompressobj(wbits=_GZIP)
        data = self._data
        while not decoder.eof:
            try:
                text = decoder.decompress(data, _CHUNK)
            except zlib.error as error:
                self.problem = f"the compressed data is damaged: {error}"
                return
            data = decoder.unconsumed_tail
            yield text
            if not data and len(text) < _CHUNK and not decoder.eof:
                data = self._file.read(_CHUNK)
                if not data:
                    self.problem = _TRUNCATED
                    return
        self.end = self._file.tell() - len(decoder.unused_data)
        self.rest = decoder.unused_data or self._file.read(_CHUNK)

    def _is_too_large(self, line: int, added: int) -> bool:
        self._size += added
        if line > self._max_line:
            self.problem = f"the line is longer than {self._max_line:,} bytes, as no event is"
        elif self._lines > _MAX_LINES or self._size > self._max_line + _MAX_BEFORE_LAST:
            self.problem = "its compressed data is larger than in any export"
        return bool(self.problem)


class FileState(msgspec.Struct):
    """How far a file was read: up to the end of a member, after which writing can resume.

    `offset` is in bytes of the file; `truncated` is whether an incomplete member follows.
    """

    sums: FileSums
    offset: int = 0
    lines: int = 0
    events: int = 0
    last: EventLine | None = None
    is_complete: bool = False
    truncated: bool = False


class FileReader:
    """Reads one export file from its beginning; made by `open_export`.

    `max_payload` is the largest payload of an event in bytes; a line that is far longer, and
    compressed data that would expand far beyond it, are refused before they are in memory.
    """

    def __init__(self, path: Path, file: BinaryIO, *, max_payload: int = 0) -> None:
        self._path = path
        # Text is escaped, with up to six characters for one.
        self._members = _members(file, 8 * max_payload or _MAX_LINE)
        self.state = FileState(FileSums())
        self.line = 1  # of the last event that was yielded
        self.first = self._read_first()

    def pages(self) -> Iterator[list[EventLine]]:
        """The events in pages; raises `DamagedFile`, naming the line.

        Events before that line in the same page are not yielded. After a truncated file
        `state.truncated` is set.
        """
        while not self.state.truncated and (member := next(self._members, None)) is not None:
            events = self._open(member)
            if events:
                yield events

    def events(self) -> Iterator[EventLine]:
        """All events of a file that must be complete; raises `DamagedFile`, naming the line."""
        before = self.state.lines
        for page in self.pages():
            for self.line, event in enumerate(page, start=before + 1):
                yield event
            before = self.state.lines
        self.check_complete()

    async def to_end(self) -> None:
        """Read the rest, up to the end or the truncation; raises `DamagedFile`."""
        for _ in self.pages():
            await asyncio.sleep(0)  # let other tasks and Ctrl-C run

    def check_complete(self) -> None:
        """Raise `DamagedFile` if the file, which has been read, is truncated."""
        if not self.state.is_complete:
            raise self._damaged(
                "the file is truncated here: finish it with `export --continue`, or export again"
            )

    def refused(self, problem: str) -> DamagedFile:
        """The error for the event that was yielded last."""
        return DamagedFile(str(self._path), self.line, problem)

    def _read_first(self) -> FirstLine:
        member = next(self._members, None)
        lines = [] if member is None else list(member)
        if member is None or len(lines) != 1 or member.problem:
            raise self._damaged("it is not an export file, or is truncated in its first line")
        first = self._line(lines[0])
        if not isinstance(first, FirstLine):
            raise self._damaged("it is not the first line of an export")
        self.state.lines, self.state.offset = 1, member.end
        return first

    def _open(self, member: _Member) -> list[EventLine]:
        """Check a member, and advance the state to its end if it is complete."""
        before = msgspec.structs.replace(self.state, sums=self.state.sums.copy())
        events = []
        for raw in member:
            line = self._line(raw)
            self._check_order(line)
            if isinstance(line, EventLine):
                events.append(line)
            self.state.lines += 1
        if member.problem == _TRUNCATED:
            self.state = before
            self.state.truncated = True
            return []
        if member.problem:
            raise self._damaged(member.problem)
        self.state.offset = member.end
        return events

    def _line(self, raw: bytes) -> Line:
        try:
            return self.state.sums.open(raw)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _check_order(self, line: Line) -> None:
        """Raise `DamagedFile` unless the line may come next."""
        state = self.state
        position = state.last.position if state.last else 0
        if state.is_complete or isinstance(line, FirstLine):
            raise self._damaged("something follows the end")
        if isinstance(line, EventLine):
            if line.position <= position:
                raise self._damaged(f"position {line.position} comes after {position}")
            state.events += 1
            state.last = line
        elif (line.events, line.position) != (state.events, position):
            raise self._damaged(
                f"it counts {counted(line.events, 'event')}, but {state.events} come before it"
            )
        state.is_complete = isinstance(line, FileEnd)

    def _damaged(self, problem: str) -> DamagedFile:
        return DamagedFile(str(self._path), self.state.lines + 1, problem)


def open_export(path: Path) -> BinaryIO:
    """Open a file for reading; raises `TransferError`."""
    try:
        return path.open("rb")
    except OSError as error:
        raise TransferError(f"{path} cannot be read: {error.strerror}") from error


async def check_file(path: Path, *, max_payload: int = 0) -> tuple[FirstLine, FileState]:
    """Read a file, which must be complete; raises `DamagedFile`, naming the line.

    `max_payload` is as in `FileReader`.
    """
    with open_export(path) as file:
        reader = FileReader(path, file, max_payload=max_payload)
        await reader.to_end()
        reader.check_complete()
        return reader.first, reader.state


def _members(file: BinaryIO, max_line: int) -> Iterator[_Member]:
    """The members, each of which must be iterated before the next."""
    data = file.read(_CHUNK)
    while data:
        member = _Member(file, data, max_line)
        yield member
        data = b"" if member.problem else member.rest
