"""What only a server does: it is unreachable, uncertain, silent, full, or locked by others."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from eventstore.errors import ConfigurationError, DatabaseUnavailable, ProjectionFenced
from eventstore.messages.envelope import utc_now
from eventstore.projections.audit import commands
from eventstore.projections.audit.models import audit_command
from eventstore.projections.database import checkpoint
from eventstore.projections.database.backends import is_transient, postgresql_connection
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from tests.postgresql_server import PostgresqlServer
from tests.proxy import Direction, TcpProxy
from tests.unit.projections.counters import Counted, codec, counting, make_tables, moved, rows_of
from tests.unit.projections.memory import START, MemoryLog

BOUND = 20.0
WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE NOT granted AND datname = current_database()"
)


@pytest.fixture
async def location(postgresql_server: PostgresqlServer) -> str:
    """A database with one table."""
    location = await postgresql_server.create()
    async with Database(location) as database:
        await database.transact(lambda c: c.execute(text("CREATE TABLE n (n INTEGER PRIMARY KEY)")))
    return location


@pytest.fixture
async def database(location: str) -> AsyncIterator[Database]:
    async with Database(location) as database:
        yield database


@pytest.fixture
def own_server() -> Iterator[PostgresqlServer]:
    """A server of the test's own, to be killed."""
    with PostgresqlServer() as server:
        yield server


def add(number: int, connection: Connection) -> None:
    connection.execute(text("INSERT INTO n VALUES (:n)"), {"n": number})


async def numbers(database: Database) -> list[int]:
    async with database.engine.connect() as connection:
        return list((await connection.execute(text("SELECT n FROM n ORDER BY n"))).scalars())


@asynccontextmanager
async def locked(location: str) -> AsyncIterator[asyncpg.Connection]:
    """Another process's transaction, that holds the table."""
    other = await asyncpg.connect(location)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE n IN EXCLUSIVE MODE")
            yield other
    finally:
        await other.close()


def through(proxy: TcpProxy, location: str) -> str:
    name = location.rpartition("/")[2]
    return f"postgresql://tests@127.0.0.1:{proxy.port}/{name}"


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "postgres"])
async def test_it_opens_by_url(location: str, scheme: str) -> None:
    url = location.replace("postgresql", scheme, 1) + "?application_name=theirs&sslmode=disable"
    async with Database(url) as database:
        async with database.engine.connect() as connection:
            name = await connection.scalar(text("SHOW application_name"))
        assert name == "theirs"
        assert await database.size() > 1_000_000
        assert database.path is None
        assert database.name == location


@pytest.mark.parametrize(
    ("user", "place", "complaint"),
    [
        ("guarded:wrong", "postgres", 'password authentication failed for user "guarded"'),
        ("tests:wrong", "nowhere", 'database "nowhere" does not exist'),
        ("tests:wrong", "postgres?password=wrong&sslmode=require", "rejected SSL upgrade"),
        ("tests:wrong", "postgres?sslmode=nonsense", "sslmode"),
        ("tests:wrong", "postgres?nonsense=1", 'unrecognized configuration parameter "nonsense"'),
    ],
)
async def test_one_that_cannot_be_opened_is_named_without_its_password(
    postgresql_server: PostgresqlServer, user: str, place: str, complaint: str
) -> None:
    at = f"127.0.0.1:{postgresql_server.port}"
    with pytest.raises(ConfigurationError, match=complaint) as refused:
        async with Database(f"postgresql://{user}@{at}/{place}"):
            pass

    assert f"cannot use postgresql://{user.partition(':')[0]}:***@{at}/" in str(refused.value)
    assert "wrong" not in str(refused.value)


async def test_an_unreachable_server_is_reported_immediately() -> None:
    with pytest.raises(ConfigurationError, match="Connect call failed"):
        async with asyncio.timeout(5), Database("postgresql://127.0.0.1:1/x"):
            pass


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'jetstream-eventstore\[postgres\]'"):
        Database("postgresql://host/db")


async def test_readers_do_not_wait_for_the_writer(database: Database, location: str) -> None:
    await database.transact(lambda c: add(1, c))
    async with locked(location):
        assert await numbers(database) == [1]


async def test_readers_and_the_writer_speak_to_one_schema(database: Database) -> None:
    async with database.engine.connect() as connection:
        isolation = await connection.scalar(text("SHOW transaction_isolation"))
        read_only = await connection.scalar(text("SHOW transaction_read_only"))
    assert (isolation, read_only) == ("repeatable read", "on")


async def test_one_that_waits_for_another_can_be_cancelled(database: Database) -> None:
    first = asyncio.create_task(database.transact(lambda c: add(1, c)))
    second = asyncio.create_task(database.transact(lambda c: add(2, c)))
    await asyncio.sleep(0)
    second.cancel()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second

    assert await numbers(database) == [1]


async def test_a_lock_is_waited_out(
    database: Database, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []
    real_sleep = asyncio.sleep

    async with locked(location) as other:

        async def released_meanwhile(delay: float) -> None:
            tries.append(delay)
            if len(tries) == 2:
                await other.execute("ROLLBACK AND CHAIN")
            await real_sleep(0)

        monkeypatch.setattr(asyncio, "sleep", released_meanwhile)
        await database.transact(quickly_add, retry_timeout=60)
        monkeypatch.undo()

    assert await numbers(database) == [1]
    assert len(tries) == 2


def quickly_add(connection: Connection) -> None:
    connection.execute(text("SET LOCAL lock_timeout = 10"))
    add(1, connection)


async def test_waiting_for_a_lock_ends_after_the_timeout(database: Database, location: str) -> None:
    async with locked(location):
        with pytest.raises(DatabaseUnavailable, match=r"lock timeout; tried for 0\.1 s"):
            await database.transact(quickly_add, retry_timeout=0.1)

    assert await numbers(database) == []


def claim(connection: Connection) -> None:
    checkpoint.claim(connection, counting("first"), START)


def move(connection: Connection) -> None:
    moved(connection, counting("first"), 0, 5, START)


@pytest.mark.parametrize("step", [claim, move])
async def test_of_two_concurrent_transactions_the_later_is_fenced(
    postgresql_read_model: str, step: Callable[[Connection], None]
) -> None:
    """One has written and not committed when the other writes."""
    gate = await asyncpg.connect(postgresql_read_model)
    await gate.execute("SELECT pg_advisory_lock(1)")

    def work(connection: Connection, *, waits: bool) -> None:
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        step(connection)
        if waits:
            connection.execute(text("SELECT pg_advisory_xact_lock(1)"))

    async def until_waiting(count: int) -> None:
        async with asyncio.timeout(BOUND):
            while await gate.fetchval(WAITING) < count:  # noqa: ASYNC110  # it tells when asked
                await asyncio.sleep(0.01)

    async with Database(postgresql_read_model) as one, Database(postgresql_read_model) as other:
        if step is move:
            await one.transact(claim)
        first = asyncio.create_task(one.transact(partial(work, waits=True)))
        await until_waiting(1)
        later = asyncio.create_task(other.transact(partial(work, waits=False)))
        await until_waiting(2)
        await gate.close()
        await first
        with pytest.raises(ProjectionFenced):
            await later


async def test_several_databases_may_be_migrated_by_one_loop(
    postgresql_server: PostgresqlServer,
) -> None:
    async def migrate() -> None:
        async with Database(await postgresql_server.create()) as database:
            await database.migrate()
            await database.check_schema()

    async with asyncio.timeout(BOUND):
        await asyncio.gather(*(migrate() for _ in range(3)))


@pytest.mark.parametrize(
    ("lost", "direction", "counts"),
    [(b"COMMIT;", "to_server", 2), (b"COMMIT\0Z", "to_client", 1)],
    ids=["question", "answer"],
)
async def test_a_commit_in_doubt_counts_once(
    postgresql_server: PostgresqlServer,
    location: str,
    lost: bytes,
    direction: Direction,
    counts: int,
) -> None:
    runs: list[int] = []
    reported: list[int] = []

    def work(connection: Connection) -> int:
        runs.append(len(runs) + 1)
        add(runs[-1], connection)
        return runs[-1]

    def stands(connection: Connection) -> bool:
        return bool(connection.scalar(text("SELECT count(*) FROM n WHERE n = 1")))

    async with (
        TcpProxy(postgresql_server.port) as proxy,
        Database(through(proxy, location)) as database,
    ):
        cut = proxy.cut_after(lost, direction, forward=False)
        result = await database.transact(
            work, retry_timeout=BOUND, committed=reported.append, is_committed=stands
        )
        assert cut.is_set()
        assert await numbers(database) == [counts] == [result] == reported


async def test_a_worker_whose_commit_was_in_doubt_goes_on(
    postgresql_server: PostgresqlServer, postgresql_read_model: str
) -> None:
    first, log = counting("first"), MemoryLog(codec)
    async with (
        TcpProxy(postgresql_server.port) as proxy,
        Database(through(proxy, postgresql_read_model)) as database,
    ):
        await make_tables(database)
        worker = ProjectionWorker(log, database, [first])  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await worker.wait(await log.add_live("c", Counted(by=1)), BOUND)
            for by in (2, 3, 4):
                lost = proxy.cut_after(b"COMMIT\0Z", "to_client", forward=False)
                await worker.wait(await log.add_live("c", Counted(by=by)), BOUND)
                assert lost.is_set()
            worker.stop()
        assert await rows_of(database, first) == [(1, 1), (2, 2), (3, 3), (4, 4)]
        assert worker.progress["first"].applied == 4


@pytest.mark.parametrize("within", [False, True])
async def test_a_server_that_falls_silent_is_lost(
    within: bool,
    postgresql_server: PostgresqlServer,
    location: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgresql_connection, "COMMAND_SECONDS", 0.3)
    async with (
        TcpProxy(postgresql_server.port) as proxy,
        Database(through(proxy, location)) as database,
    ):
        await database.transact(lambda c: add(1, c))

        def work(connection: Connection) -> None:
            if within:
                proxy.hold()
            add(2, connection)

        if not within:
            proxy.hold()
        with pytest.raises(DatabaseUnavailable, match="no answer in"):
            await database.transact(work)
        proxy.cut()
        proxy.release()
        await database.transact(lambda c: add(3, c), retry_timeout=BOUND)
        assert await numbers(database) == [1, 3]


async def test_a_crash_of_the_server_is_waited_out(own_server: PostgresqlServer) -> None:
    first, log = counting("first"), MemoryLog(codec)
    async with Database(await own_server.create()) as database:
        await database.migrate()
        await make_tables(database)
        worker = ProjectionWorker(log, database, [first], batch=1)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await worker.wait(await log.add_live("c", Counted(by=1)), BOUND)
            for number in (signal.SIGQUIT, signal.SIGINT):
                assert await rows_of(database, first) != []
                await log.add_live("c", *(Counted(by=n) for n in range(20)))
                await asyncio.to_thread(own_server.stop, number)
                await log.add_live("c", Counted(by=7))
                await asyncio.to_thread(own_server.start)
                await worker.wait(log.end, BOUND)
            worker.stop()

        expected = [(event.position, event.data.by) for event in log.events]  # type: ignore[attr-defined]
        assert await rows_of(database, first) == expected
        assert worker.progress["first"].applied == log.end


@pytest.mark.parametrize(
    ("sqlstate", "transient"),
    [
        ("40001", True),
        ("40P01", True),
        ("08006", True),
        ("53100", True),
        ("53300", True),
        ("55P03", True),
        ("57P01", True),
        ("57P03", True),
        ("25006", True),
        ("58030", True),
        ("23505", False),
        ("42P01", False),
        ("28P01", False),
        ("3D000", False),
        ("22021", False),
    ],
)
def test_what_may_pass(sqlstate: str, transient: bool) -> None:
    error: Any = asyncpg.PostgresError("so it is")
    error.sqlstate = sqlstate

    assert is_transient(error) is transient
    assert is_transient(DBAPIError("SELECT", {}, error)) is transient


async def test_the_row_of_a_command_that_it_refuses_is_passed_over(location: str) -> None:
    empty = dict.fromkeys(audit_command.columns.keys())
    times = {"time": utc_now(), "finished_at": utc_now()}
    row = empty | times | {"version": 0, "position": 0, "status": "", "code": "", "message": ""}
    rows = [row | {"id": own} for own in ("a", "x" * 40, "b")] + [
        row | {"id": "c", "version": 2**63}
    ]
    async with Database(location) as database:
        await database.migrate()
        for row in rows:
            await database.transact(partial(commands._try_to_replace, row=row))
        async with database.engine.connect() as connection:
            found = (await connection.execute(select(audit_command.c.id))).scalars().all()
    assert sorted(found) == ["a", "b"]
