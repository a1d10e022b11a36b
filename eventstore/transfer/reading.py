"""Reading an export file: checked line by line, in bounded memory, up to where it is whole."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from eventstore.errors import DamagedFile, TransferError
from eventstore.transfer.lines import End, EventLine, FirstLine, Line, Sums

__all__ = ["Reader", "State", "check_file", "open_export"]

_CHUNK = 64 * 1024
_LONGEST = 256 * 1024 * 1024
_GZIP = 31
_TORN = "it breaks off"


class _Member(msgspec.Struct):
    """One gzip member: its lines, where it ends in the file, and what is wrong with it."""

    lines: list[bytes]
    end: int
    problem: str = ""


class State(msgspec.Struct):
    """How far a file was read: at the end of a member, from where writing can go on.

    `offset` is in bytes of the file; `torn` is whether it breaks off after it.
    """

    sums: Sums
    offset: int = 0
    lines: int = 0
    events: int = 0
    last: EventLine | None = None
    is_complete: bool = False
    torn: bool = False


class Reader:
    """Reads one export file from its beginning; made by `open_export`."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._members = _members(file)
        self.state = State(Sums())
        self.line = 1  # of the event handed out last
        self.first = self._read_first()

    def pages(self) -> Iterator[list[EventLine]]:
        """The events, some at a time; raises `DamagedFile`, naming the line.

        What comes before the line in the same page is not handed out. A file that breaks off ends
        with `state.torn`.
        """
        while not self.state.torn and (member := next(self._members, None)) is not None:
            events = self._open(member)
            if events:
                yield events

    def events(self) -> Iterator[EventLine]:
        """All events of a file that must be whole; raises `DamagedFile`, naming the line."""
        before = self.state.lines
        for page in self.pages():
            for self.line, event in enumerate(page, start=before + 1):
                yield event
            before = self.state.lines
        self.check_complete()

    async def to_end(self) -> None:
        """Read what is left, to the end or to where it breaks off; raises `DamagedFile`."""
        for _ in self.pages():
            await asyncio.sleep(0)  # others, and Ctrl-C, have their turn

    def check_complete(self) -> None:
        """Raise `DamagedFile` where the file has been read and breaks off."""
        if not self.state.is_complete:
            raise self._damaged(
                "the file breaks off here: finish it with `export --continue`, or export anew"
            )

    def _read_first(self) -> FirstLine:
        member = next(self._members, None)
        lines = [] if member is None else member.lines
        if member is None or len(lines) != 1 or member.problem:
            raise self._damaged("it is no export file, or breaks off in its first line")
        first = self._line(lines[0])
        if not isinstance(first, FirstLine):
            raise self._damaged("it is not the first line of an export")
        self.state.lines, self.state.offset = 1, member.end
        return first

    def _open(self, member: _Member) -> list[EventLine]:
        """Check a member, and go on to its end if it is whole."""
        before = msgspec.structs.replace(self.state, sums=self.state.sums.copy())
        events = []
        for raw in member.lines:
            line = self._line(raw)
            self._place(line)
            if isinstance(line, EventLine):
                events.append(line)
            self.state.lines += 1
        if member.problem == _TORN:
            self.state = before
            self.state.torn = True
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

    def _place(self, line: Line) -> None:
        """Raise unless the line may stand where it stands."""
        state = self.state
        position = state.last.position if state.last else 0
        if state.is_complete or isinstance(line, FirstLine):
            raise self._damaged("something stands after the end")
        if isinstance(line, EventLine):
            if line.position <= position:
                raise self._damaged(f"position {line.position} stands after {position}")
            state.events += 1
            state.last = line
        elif (line.events, line.position) != (state.events, position):
            raise self._damaged(f"it counts {line.events} events, and {state.events} stand before")
        state.is_complete = isinstance(line, End)

    def _damaged(self, problem: str) -> DamagedFile:
        return DamagedFile(str(self._path), self.state.lines + 1, problem)


def open_export(path: Path) -> BinaryIO:
    """Open a file for reading; raises `TransferError`."""
    try:
        return path.open("rb")
    except OSError as error:
        raise TransferError(f"{path} cannot be read: {error.strerror}") from error


async def check_file(path: Path) -> tuple[FirstLine, State]:
    """Read all of a file, which must be whole; raises `DamagedFile`, naming the line."""
    with open_export(path) as file:
        reader = Reader(path, file)
        await reader.to_end()
        reader.check_complete()
        return reader.first, reader.state


def _members(file: BinaryIO) -> Iterator[_Member]:
    data = file.read(_CHUNK)
    while data:
        decoder = zlib.decompressobj(wbits=_GZIP)
        text = bytearray()
        problem = ""
        while not decoder.eof and not problem:
            try:
                text += decoder.decompress(data)
            except zlib.error as error:
                problem = f"the compressed data is damaged: {error}"
            data = decoder.unused_data or file.read(_CHUNK)
            if not data and not decoder.eof:
                problem = problem or _TORN
            elif len(text) > _LONGEST:
                problem = "it is longer than any export's"
        lines = bytes(text).split(b"\n")
        if lines.pop() and not problem:
            problem = "the line has no end"
        yield _Member(lines, file.tell() - len(data), problem)
        if problem:
            return
