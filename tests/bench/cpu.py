"""CPU time and memory of processes, as the kernel accounts them (Linux)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

Nanoseconds = dict[str, int]


class Meter:
    """Reads the CPU time of processes: of this one, as `client`, and of others by their names."""

    def __init__(self, **pids: int | None) -> None:
        self._pids = pids

    def read(self) -> Nanoseconds:
        """The CPU time that each process has used so far."""
        others = {name: cpu_nanoseconds(pid) for name, pid in self._pids.items() if pid}
        return {"client": time.process_time_ns(), **others}

    def since(self, before: Mapping[str, int]) -> Nanoseconds:
        """The CPU time that each has used since a reading."""
        return {name: now - before[name] for name, now in self.read().items()}


def cpu_nanoseconds(pid: int) -> int:
    """The CPU time of a process; that of threads which have ended is missing."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def memory(pid: int, *, peak: bool = False) -> float:
    """A process's resident memory in MB, or the highest that it had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:" if peak else "VmRSS:")[2].split()[0]) / 1024
