"""The read models: a consistent copy of a SQLite file, while a service writes to it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from eventstore.config.private_files import ensure_private_file
from eventstore.errors import TransferError

_PAGES = 1_000


async def copy_read_model(source: Path, target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy a database, as of one moment, to a new file; `progress` counts pages.

    All rows and checkpoints are of the same transaction. Raises `TransferError`.
    """
    stop = threading.Event()
    loop = asyncio.get_running_loop()

    def report(_: int, remaining: int, total: int) -> None:
        if stop.is_set():
            raise InterruptedError
        loop.call_soon_threadsafe(progress, total - remaining, total)

    copying = asyncio.ensure_future(asyncio.to_thread(_copy, source, target, report))
    try:
        await asyncio.shield(copying)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([copying])
        copying.exception()
        raise
    except (sqlite3.Error, OSError) as error:
        raise TransferError(f"read model {source} cannot be copied: {error}") from error


def _copy(source: Path, target: Path, report: Callable[[int, int, int], None]) -> None:
    target.unlink(missing_ok=True)
    ensure_private_file(target)
    read_only = f"{source.absolute().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(read_only, uri=True, isolation_level=None)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.execute("BEGIN")
        reading.execute("SELECT 1 FROM sqlite_master")  # from here on, one moment
        reading.backup(writing, pages=_PAGES, progress=report)
