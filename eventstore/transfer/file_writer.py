"""Writes an export file in self-contained gzip members, so that an interrupted one can be resumed.

The file is FILE.part until it is complete.
"""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from eventstore.config.private_files import open_private
from eventstore.errors import TransferError
from eventstore.transfer.file_format import EventLine, FileCheckpoint, FileEnd, FirstLine, Line
from eventstore.transfer.file_reader import FileState

_MAX_EVENTS = 1_000
_MAX_BYTES = 8 * 1024 * 1024
_LEVEL = 5


class FileWriter:
    """Writes lines to a file or a pipe, from `state` on."""

    def __init__(self, stream: BinaryIO, state: FileState) -> None:
        self._stream = stream
        self._sums = state.sums
        self.events = state.events
        self.position = state.last.position if state.last else 0
        self._lines: list[bytes] = []
        self._bytes = 0
        self._since = 0

    async def begin(self, first: FirstLine) -> None:
        """Write the first line."""
        await self._write(first)

    async def add(self, event: EventLine) -> None:
        """Add an event; it is written with its member."""
        line = self._sums.seal(event)
        self._lines.append(line)
        self.events += 1
        self.position = event.position
        self._since += 1
        self._bytes += len(line)
        if self._since == _MAX_EVENTS or self._bytes >= _MAX_BYTES:
            await self._write(FileCheckpoint(events=self.events, position=self.position))

    async def end(self) -> str:
        """Write the last line; returns the checksum of the file."""
        await self._write(FileEnd(events=self.events, position=self.position))
        return self._sums.value

    async def _write(self, last: Line) -> None:
        lines = b"".join([*self._lines, self._sums.seal(last)])
        self._lines, self._bytes, self._since = [], 0, 0
        await asyncio.to_thread(self._write_member, lines)

    def _write_member(self, lines: bytes) -> None:
        self._stream.write(gzip.compress(lines, _LEVEL, mtime=0))
        self._stream.flush()


def part_of(path: Path) -> Path:
    """The path of a file until it is complete."""
    return path.with_name(f"{path.name}.part")


@contextmanager
def partial_file(path: Path, *, resume: bool = False, keep: bool = True) -> Iterator[BinaryIO]:
    """FILE.part for writing, which is renamed to FILE at the end of the block.

    After an error FILE.part stays if `keep`. Raises `TransferError` if one of the files exists, or
    another process writes it.
    """
    part = part_of(path)
    if path.exists():
        raise TransferError(f"{path} exists already: name another file, or remove it")
    if part.exists() and not resume:
        raise TransferError(
            f"{part} exists, from an interrupted export: resume it with `export --continue`, or "
            "remove it"
        )
    try:
        file = os.fdopen(open_private(part, os.O_RDWR | os.O_CREAT), "r+b")
    except OSError as error:
        raise TransferError(f"{part} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TransferError(f"another process writes {part}") from None
        try:
            yield file
        except BaseException:
            if not keep:
                part.unlink()
            raise
        file.flush()
        os.fsync(file.fileno())
        part.rename(path)
