"""Placeholder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventstore.errors import ProjectionError
from projections.database import Database

__all__ = ["OwnedElsewhere", "holder_of", "owned"]


class OwnedElsewhere(ProjectionError):
    """Placeholder."""

    code = "owned_elsewhere"
    retryable = True


@asynccontextmanager
async def owned(database: Database, name: str) -> AsyncIterator[None]:
    """Placeholder."""
    descriptor = os.open(f"{database.url.database}.{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode()
            raise OwnedElsewhere(f"{name} is held by process {holder}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def holder_of(database: Database, name: str) -> str | None:
    """Placeholder."""
    path = f"{database.url.database}.lock"
    if name.startswith("rebuild-"):
        path = f"{database.url.database}.{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"process {os.pread(descriptor, 20, 0).decode()}"
    finally:
        os.close(descriptor)
    return None
