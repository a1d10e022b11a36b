"""A small file system that can be filled, and freed again."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Self

_MEGABYTE = 1 << 20


class Disk:
    """A tmpfs mounted on a directory, inside the block; raises `OSError` where that needs root."""

    def __init__(self, directory: Path, megabytes: int = 1_024) -> None:
        self.directory = directory
        self._ballast = directory / "ballast"
        self._megabytes = megabytes

    def __enter__(self) -> Self:
        size = f"size={self._megabytes}m,mode=0700"
        ended = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", self.directory],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            raise OSError(errno.EPERM, ended.stderr.strip())
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.directory], check=True)  # noqa: S607

    def fill(self) -> None:
        """Leave nothing free."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            for size in (_MEGABYTE, 4096):
                self._extend(file, size)
        finally:
            os.close(file)

    def _extend(self, file: int, size: int) -> None:
        try:
            while True:
                os.posix_fallocate(file, os.fstat(file).st_size, size)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)
