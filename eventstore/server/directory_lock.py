"""Locks on a server's directory: one owner and one server; a server without an owner is stopped."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from eventstore.config.private_files import open_private
from eventstore.errors import ServerStartFailed
from eventstore.messages.text import make_log_records_safe

STOP_SECONDS = 10.0
"""How long a server may take to end before it is killed."""

POLL_SECONDS = 0.01
"""The time between two looks at what cannot be waited for."""

CONFIG = "nats-server.conf"
"""The file in the directory that a server's command line names."""

_logger = make_log_records_safe(logging.getLogger(__name__))


class DirectoryLock:
    """A file lock that names the pid of its holder.

    The kernel releases the lock when the last process with the descriptor exits, so the pid in a
    locked file is that of a live process and never a reused one. The content of an unlocked file
    is meaningless.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor = open_private(path, os.O_RDWR | os.O_CREAT)

    def acquire(self) -> bool:
        """Take it, without waiting; False if another has it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self.descriptor, 0)
        return True

    def holder(self) -> int | None:
        """The pid of the holder; None before it is written."""
        return int(os.pread(self.descriptor, 20, 0) or 0) or None

    def close(self) -> None:
        """Release it, unless a child process has the same descriptor."""
        os.close(self.descriptor)


def lock_directory(directory: Path) -> DirectoryLock:
    """The lock of a server's owner, with this process's pid; raises `ServerStartFailed`."""
    lock = DirectoryLock(directory / "owner.lock")
    if not lock.acquire():
        raise _in_use(directory, lock)
    os.pwrite(lock.descriptor, str(os.getpid()).encode(), 0)
    return lock


def _in_use(directory: Path, lock: DirectoryLock) -> ServerStartFailed:
    with closing(lock):
        return ServerStartFailed(
            f"{directory} is in use by process {lock.holder()}; "
            "two servers on one directory would corrupt it"
        )


async def stop_orphan(directory: Path) -> DirectoryLock:
    """The lock for a new server, after a server without an owner has been stopped.

    Raises `ServerStartFailed` if that does not end.
    """
    lock = DirectoryLock(directory / "server.lock")
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if await _acquired_after(lock, directory, number):
                return lock
    except BaseException:
        lock.close()
        raise
    raise _in_use(directory, lock)


async def _acquired_after(lock: DirectoryLock, directory: Path, number: signal.Signals) -> bool:
    deadline = time.monotonic() + STOP_SECONDS
    signalled = False
    while not lock.acquire():
        orphan = lock.holder()
        if not signalled and orphan is not None and serves(orphan, directory):
            _logger.warning("stopping nats-server %d, whose owner has died", orphan)
            with suppress(ProcessLookupError):
                os.kill(orphan, number)
            signalled = True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


def serves(pid: int, directory: Path) -> bool:
    """Whether this process runs, and is a server on the directory, not a reused pid."""
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    else:
        command = subprocess.run(  # noqa: S603  # no argument is untrusted
            ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        ).stdout
    return os.fsencode(directory / CONFIG) in command
