"""The machine and the versions that figures are from, and how busy the machine was."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from eventstore.server.binary import find_server

PACKAGES = ("nats-py", "uvloop", "msgspec", "sqlalchemy", "eventsourcing", "eventsource-py")
BUSY = 0.5
"""The share of the processors from which on others are said to have been at work."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A machine: its processors, memory in GB, versions, and its load before the run."""

    system: str
    processor: str
    cores: int
    memory: float
    versions: Mapping[str, str]
    load: float

    @classmethod
    def this(cls) -> Machine:
        """This machine, now."""
        return cls(
            system=f"{platform.system()} {platform.machine()}",
            processor=_line("/proc/cpuinfo", "model name") or platform.processor(),
            cores=os.cpu_count() or 1,
            memory=round(int(_line("/proc/meminfo", "MemTotal").split()[0]) / 1024**2, 1),
            versions=_versions(),
            load=round(os.getloadavg()[0], 1),
        )

    @property
    def is_busy(self) -> bool:
        """Whether others were at work when the run began: its figures have to be taken again."""
        return self.load > BUSY * self.cores

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.system}, {self.cores} cores of {self.processor}, {self.memory:.0f} GB; "
            f"{versions}; load {self.load:g} before the run"
        )


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "nats-server": find_server().version}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _line(file: str, name: str) -> str:
    """What a file of the kernel says of a name; "0" if it does not."""
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "0"
