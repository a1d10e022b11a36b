"""Files of Debian's packages: those of `make debian`, or else the system's."""

from __future__ import annotations

from pathlib import Path

_ROOTS = (Path(__file__).parents[1] / ".venv" / "debian", Path("/"))


def file(pattern: str) -> Path | None:
    """The first file that matches a pattern relative to the root; None if there is none."""
    return next((path for root in _ROOTS for path in root.glob(pattern)), None)
