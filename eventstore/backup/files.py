"""The files of a backup: written with their digest, read and checked."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from eventstore.backup.manifest import CopiedFile
from eventstore.config.private_files import ensure_private_directory, open_private
from eventstore.errors import BackupDamaged, TransferError

_BLOCK = 1 << 20

Progress = Callable[[str, int, int], None]
"""Called with what is copied or checked, how many bytes are done, and roughly of how many."""


class DigestWriter:
    """Writes to a file, and computes its digest meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self.bytes = 0

    def write(self, chunk: bytes) -> None:
        """Write some bytes."""
        self._file.write(chunk)
        self._sum.update(chunk)
        self.bytes += len(chunk)

    def copied(self) -> CopiedFile:
        """The size and the digest, when all of it is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return CopiedFile(self.bytes, self._sum.hexdigest())


@contextmanager
def new_file(path: Path) -> Iterator[DigestWriter]:
    """A file in place of any former one, for its owner only; raises `TransferError`."""
    try:
        with open(path, "wb", opener=open_private) as file:
            yield DigestWriter(file)
    except OSError as error:
        raise TransferError(
            f"{path} cannot be written: {error.strerror}; make room, and go on with --continue"
        ) from error


@contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """A directory for its owner only, which no other backup writes meanwhile.

    Raises `TransferError` if it cannot be made, or another process has it.
    """
    try:
        ensure_private_directory(directory)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise TransferError(f"{directory} cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise TransferError(f"another process makes a backup in {directory}") from None
    try:
        yield
    finally:
        os.close(handle)


def blocks(path: Path, size: int = _BLOCK) -> Iterator[bytes]:
    """The content of a file, a block at a time; raises `BackupDamaged` if it cannot be read."""
    try:
        with path.open("rb") as file:
            while block := file.read(size):
                yield block
    except OSError as error:
        raise BackupDamaged(f"{path} cannot be read: {error.strerror}") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def digest_of(path: Path, report: Progress | None = None) -> CopiedFile:
    """The size and the digest of a file; raises `BackupDamaged`."""
    total = await asyncio.to_thread(_size, path)
    found, done = hashlib.sha256(), 0
    for block in blocks(path):
        await asyncio.to_thread(found.update, block)
        done += len(block)
        if report is not None:
            report(f"checking {path.name}", done, total)
    return CopiedFile(done, found.hexdigest())


async def check_file(path: Path, expected: CopiedFile, report: Progress) -> None:
    """Raise `BackupDamaged` unless a file has the expected content."""
    found = await digest_of(path, report)
    if found.bytes != expected.bytes:
        raise BackupDamaged(
            f"{path} has {found.bytes:,} bytes instead of {expected.bytes:,}: it was truncated or "
            "changed"
        )
    if found != expected:
        raise BackupDamaged(f"{path} was changed: its checksum differs")
