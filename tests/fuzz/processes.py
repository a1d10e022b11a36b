"""The memory and the descriptors of a process, as the kernel counts them."""

from __future__ import annotations

from pathlib import Path


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
