"""A PostgreSQL server of the tests' own: on a free port of 127.0.0.1, its data in a new folder."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable
from functools import cache
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.ports import free_ports

BOUND = 30.0
PASSWORD = "right"  # noqa: S105  # of the one user who needs one
_MEMORY = Path("/dev/shm")  # noqa: S108
_ROOM = 1 << 30
_FAST = ("fsync=off", "full_page_writes=off", "max_connections=60", "log_min_messages=fatal")
_INIT = ("--username=tests", "--no-sync", "--encoding=UTF8", "--locale=C")
_ACCESS = """\
host all guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


@cache
def programs() -> Path | None:
    """Where PostgreSQL is installed: on the path, or where Debian puts it; the newest there."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    folders += [each.parent for each in sorted(versions, key=_version, reverse=True)]
    return next((each for each in folders if (each / "postgres").exists()), None)


def _version(initdb: Path) -> int:
    return int(initdb.parents[1].name)


def _new_directory() -> Path:
    """In memory where there is room: a database is hundreds of files, made and deleted."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    return Path(tempfile.mkdtemp(prefix="postgresql-", dir=_MEMORY if has_room else None))


def _copying(connection: Any) -> str:
    """Copy files, as before PostgreSQL 15: half the work of logging each page as later ones do."""
    return "STRATEGY file_copy" if connection.get_server_version().major >= 15 else ""


class PostgresqlServer:
    """Made and started by `with`, and stopped and deleted after it."""

    def __enter__(self) -> Self:
        self._directory = _new_directory()
        self._data = self._directory / "data"
        self._names = itertools.count()
        # PostgreSQL refuses to be root; its package brings a user for it.
        self._user: dict[str, Any] = {"user": "postgres"} if os.geteuid() == 0 else {}
        if self._user:
            shutil.chown(self._directory, "postgres", "postgres")
        self._run("initdb", "--pgdata", self._data, *_INIT)
        (self._data / "pg_hba.conf").write_text(_ACCESS)
        (self.port,) = free_ports(1)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._directory)

    @property
    def pid(self) -> int:
        return self._process.pid

    def url(self, database: str, user: str = "tests") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start on the same port with the same data, and return when it can be connected to."""
        settings = [word for each in _FAST for word in ("-c", each)]
        listening = ["-h", "127.0.0.1", "-p", str(self.port), "-k", str(self._directory)]
        self._process = subprocess.Popen(
            [self._program("postgres"), "-D", str(self._data), *listening, *settings],
            stderr=subprocess.DEVNULL,
            cwd=self._directory,
            **self._user,
        )
        deadline = time.monotonic() + BOUND
        while not self._is_ready():
            assert self._process.poll() is None, "PostgreSQL ended"
            assert time.monotonic() < deadline, "PostgreSQL does not start"
            time.sleep(0.005)

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it: at once with SIGINT, and as by a crash with SIGQUIT."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(BOUND)

    async def create(self, template: str = "template1") -> str:
        """A new database, by its URL."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            return await self.create_with(connection, template)
        finally:
            await connection.close()

    async def create_with(self, connection: Any, template: str = "template1") -> str:
        """A new database, by its URL; over a connection to another."""
        name = f"d{next(self._names)}"
        await connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} {_copying(connection)}"
        )
        return self.url(name)

    def _is_ready(self) -> bool:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def _run(self, program: str, *words: object) -> None:
        subprocess.run(
            [self._program(program), *map(str, words)],
            check=True,
            capture_output=True,
            cwd=self._directory,
            timeout=BOUND,
            **self._user,
        )

    def _program(self, name: str) -> str:
        folder = programs()
        assert folder is not None
        return str(folder / name)


class Administrator:
    """Makes and deletes databases for synchronous fixtures, over one connection for all of them."""

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._connection = self._run(asyncpg.connect(self._server.url("postgres")))
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._connection.close())
        self._loop.close()

    def create(self, template: str = "template1") -> str:
        """A new database, by its URL."""
        url: str = self._run(self._server.create_with(self._connection, template))
        return url

    def drop(self, url: str) -> None:
        """Delete a database, whoever is connected to it."""
        name = url.rpartition("/")[2]
        self._run(self._connection.execute(f"DROP DATABASE {name} WITH (FORCE)"))

    def _run(self, main: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(main)
