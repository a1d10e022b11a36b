"""What tests ask of other processes: whether they live, freeze and end, and how large they are."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BOUND = 45.0

_IN_CLOSE_WRITE = 0x8


def state(pid: int) -> str:
    """The state as the kernel says it: T is frozen, Z has ended, "" is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_running(pid: int) -> bool:
    """Whether a process lives; one that has ended and is not yet reaped does not."""
    return state(pid) not in ("", "Z")


def freeze(pid: int | None) -> None:
    """Stop a process in its tracks, and return when it has; SIGCONT has it go on."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    _until(pid, "T")


def until_ended(pid: int) -> None:
    """Return when a process has ended; blocks."""
    _until(pid, "Z", "")


@contextmanager
def closings(path: Path) -> Iterator[Callable[[], None]]:
    """What returns when any process has closed a file, open for writing, since it last did."""
    kernel = ctypes.CDLL(None, use_errno=True)
    descriptor: int = kernel.inotify_init()
    try:
        watch = kernel.inotify_add_watch(descriptor, os.fsencode(path), _IN_CLOSE_WRITE)
        assert watch > 0, os.strerror(ctypes.get_errno())

        def closed() -> None:
            ready, _, _ = select.select([descriptor], [], [], BOUND)
            assert ready, f"nobody closes {path}"
            os.read(descriptor, 4096)

        yield closed
    finally:
        os.close(descriptor)


def _until(pid: int, *states: str) -> None:
    deadline = time.monotonic() + BOUND
    while state(pid) not in states:
        assert time.monotonic() < deadline, f"process {pid} is in state {state(pid)!r}"
        time.sleep(0.001)


def resident(pid: int) -> int:
    """Bytes of memory that it has; 0 if it is gone."""
    return _size(pid, "Rss:")


def proportional(pid: int) -> int:
    """Bytes of memory that it has, what is shared divided among those that share it."""
    return _size(pid, "Pss:")


def _size(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(name)), 0)


def descriptors(pid: int) -> int:
    """How many files and sockets it has open; 0 if it is gone."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return 0
