"""Private files: what this program writes is for its user alone, whatever the umask says.

Files that are there already keep the mode they have.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["ensure_private_directory", "ensure_private_file", "open_private"]


def open_private(path: str | Path, flags: int) -> int:
    """Open a file, which is 0600 where that makes it; an `opener` for Python's `open`."""
    return os.open(path, flags, 0o600)


def ensure_private_file(path: Path) -> None:
    """Make an empty file, 0600, where there is none; raises `OSError`."""
    with suppress(FileExistsError):
        os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def ensure_private_directory(path: Path) -> None:
    """Make a directory, and those above it, 0700 where there are none; raises `OSError`."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        ensure_private_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
