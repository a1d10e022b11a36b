"""Files and directories that only their owner can access, whatever the umask.

Existing files keep their mode.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def open_private(path: str | Path, flags: int) -> int:
    """Open a file, with mode 0600 if it is created; an `opener` for Python's `open`."""
    return os.open(path, flags, 0o600)


def ensure_private_file(path: Path) -> None:
    """Create an empty file with mode 0600 unless it exists; raises `OSError`."""
    with suppress(FileExistsError):
        os.close(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def ensure_private_directory(path: Path) -> None:
    """Create a directory and its missing parents with mode 0700; raises `OSError`."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        ensure_private_directory(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
