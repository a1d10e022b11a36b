"""The memory that an embedded server may use: Go collects its garbage earlier as it nears that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "GOMEMLIMIT"
_SHARE = 4
_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


def server_environment(
    environ: Mapping[str, str] | None = None, cgroups: Path = _CGROUPS
) -> dict[str, str]:
    """The environment of a server: `environ`, with a limit of memory unless it names one.

    The limit is a quarter of the memory of this machine, or of this container, which the server
    shares with the application. It is soft: streams that need more get it, at the cost of CPU.
    Without one, the server's heap may grow to twice what is in use.
    """
    environ = os.environ if environ is None else environ
    return {VARIABLE: str(_available(cgroups) // _SHARE), **environ}


def _available(cgroups: Path) -> int:
    """The bytes of memory of this machine, or fewer if this container has fewer."""
    own = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([own, *(limit for name in _LIMITS if (limit := _limit(cgroups / name)))])


def _limit(file: Path) -> int:
    """The limit in a file of the kernel; 0 if there is none."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0
