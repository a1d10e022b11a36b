"""Fixtures that every test may use: a real nats-server, settings for it, a client, a domain.

And empty read models at the newest revision, in SQLite and, where it is installed, in PostgreSQL.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.projections.database.database import Database
from eventstore.server.embedded import EmbeddedServer
from projections import nix_migrations
from tests import postgresql_server as postgresql
from tests.connection import settings_for as settings_for
from tests.connection import url_of as url_of

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background: what the tests start would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Whatever the environment says: hundreds of processes would each compile the library again, and
# each of pytest's would rewrite every test.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Servers live for minutes and hold little: collecting their garbage less often is a tenth of the
# CPU of the tests that use one.
os.environ.setdefault("GOGC", "400")

# On a busy machine, how long an example takes, or making it, says nothing of it.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

MEMORY = Path("/dev/shm")  # noqa: S108
ROOM = 4 << 30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
    # Files that no crash of the machine needs to spare: half of the kernel's time.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what is collected out of the garbage collector's sight: it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what has a longer timeout than others, so that nobody waits for it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


T = TypeVar("T")
StartServer = Callable[..., Awaitable[EmbeddedServer]]


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """One server shared by all tests; keep apart by `domain_name`, and never stop it."""
    with started_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


@contextmanager
def started_server(directory: Path, **options: Any) -> Iterator[EmbeddedServer]:
    """A server for several tests, which do not stop it."""
    server = EmbeddedServer(directory, **options)
    asyncio.run(server.start())
    try:
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    """Start a server of the test's own: `await start_server(max_payload=...)`."""
    async with AsyncExitStack() as running:
        names = iter(range(1_000))

        async def start(**options: Any) -> EmbeddedServer:
            directory = options.pop("data_directory", tmp_path / f"nats{next(names)}")
            return await running.enter_async_context(EmbeddedServer(directory, **options))

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> EmbeddedServer:
    """A server of the test's own, to stop, kill and restart as it likes."""
    return await start_server()


@pytest.fixture
def domain_name() -> str:
    """A domain, and so a prefix of subjects and streams, that no other test has."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def settings(nats_server: EmbeddedServer, domain_name: str) -> Settings:
    """Settings for the shared server, with the test's own domain."""
    return settings_for(nats_server.url, domain_name)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[Client]:
    """A client of the shared server."""
    async with connect(settings) as client:
        yield client


def run_beside(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own, for a fixture that must not disturb the test's."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


async def migrate(location: str | Path) -> str:
    async with Database(location, migrations=nix_migrations()) as database:
        await database.migrate()
    return str(location)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty read model at the newest revision, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "read_model.sqlite"
    run_beside(migrate(path))
    return path


@pytest.fixture
def sqlite_read_model(migrated: Path, tmp_path: Path) -> Path:
    """An empty read model of the test's own, in a file."""
    return Path(shutil.copyfile(migrated, tmp_path / "read_model.sqlite"))


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[postgresql.PostgresqlServer]:
    """One server shared by all tests, each with databases of its own; never stop it."""
    if postgresql.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgresql.PostgresqlServer() as server:
        yield server


@pytest.fixture(scope="session")
def databases(
    postgresql_server: postgresql.PostgresqlServer,
) -> Iterator[postgresql.Administrator]:
    """Makes and deletes databases on the shared server."""
    with postgresql.Administrator(postgresql_server) as databases:
        yield databases


@pytest.fixture(scope="session")
def migrated_postgresql(databases: postgresql.Administrator) -> str:
    """The name of an empty read model at the newest revision, to be a template."""
    location = databases.create()
    run_beside(migrate(location))
    return location.rpartition("/")[2]


@pytest.fixture
def postgresql_read_model(
    databases: postgresql.Administrator, migrated_postgresql: str
) -> Iterator[str]:
    """The URL of an empty read model of the test's own, on the shared server."""
    with postgresql_database(databases, migrated_postgresql) as location:
        yield location


@pytest.fixture
def new_postgresql(databases: postgresql.Administrator) -> Iterator[str]:
    """The URL of a database without anything in it."""
    with postgresql_database(databases) as location:
        yield location


@contextmanager
def postgresql_database(
    databases: postgresql.Administrator, template: str = "template1"
) -> Iterator[str]:
    """The URL of a database that is deleted at the end."""
    location = databases.create(template)
    try:
        yield location
    finally:
        databases.drop(location)


@pytest.fixture(params=["sqlite", "postgresql"])
def read_model(request: pytest.FixtureRequest) -> str:
    """The location of an empty read model of the test's own, on each kind of database."""
    return str(request.getfixturevalue(f"{request.param}_read_model"))


@pytest.fixture(params=["sqlite", "postgresql"])
def new_read_model(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The location of a database without anything in it, on each kind of database."""
    if request.param == "sqlite":
        return str(tmp_path / "new.sqlite")
    return str(request.getfixturevalue("new_postgresql"))
