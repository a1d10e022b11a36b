"""Batches: few statements for many events, the same rows, and errors that name their event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    Integer,
    MetaData,
    StaticPool,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError

from eventstore.errors import PoisonEvent, ProjectionFailed
from eventstore.messages.events import RecordedEvent
from eventstore.projections.audit.events import audit
from eventstore.projections.database.checkpoint import ExpectedCheckpoint
from eventstore.projections.database.database import Database
from eventstore.projections.database.parking import list_parked
from eventstore.projections.projection import BoundStatement, Change, Projection
from eventstore.projections.worker.apply import apply
from eventstore.projections.worker.batches import arranged
from projections import nix_migrations, nix_projections
from tests.unit.projections.counters import (
    Counted,
    claimed,
    make_tables,
    position_in,
    rows_of,
    table,
)
from tests.unit.projections.following import BOUND, following, worker_of
from tests.unit.projections.memory import MemoryLog, time_of
from tests.unit.projections.nix_history import add_history

metadata = MetaData()
owner = Table(
    "owner",
    metadata,
    Column("id", String(20), primary_key=True),
    Column("n", BigInteger, nullable=False),
    Column("note", String(20)),
)
part = Table(
    "part",
    metadata,
    Column("owner_id", String(20), ForeignKey(owner.c.id), primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("n", BigInteger, nullable=False),
)
_mine = owner.c.id == bindparam("key")
_add = insert(owner)
_put = insert(part)
_double = update(owner).where(_mine).values(n=owner.c.n * 2 % 1009)
_raise = update(owner).where(_mine).values(n=owner.c.n + bindparam("by"))
_set = update(owner).where(_mine)
_copy = insert(part).from_select(
    ["owner_id", "line", "n"],
    select(owner.c.id, bindparam("number", type_=Integer), owner.c.n).where(_mine),
)
_clear = delete(part).where(part.c.owner_id == bindparam("key"))
_remove = delete(owner).where(_mine)
_some = update(owner).where(owner.c.id.in_(bindparam("keys", expanding=True))).values(n=7)
_spread = update(owner).where(owner.c.n < bindparam("most")).values(n=owner.c.n * 3)

keys = st.sampled_from("abc")
numbers = st.integers(0, 9)
changes = st.lists(
    st.one_of(
        st.builds(lambda key, n: BoundStatement(_add, {"id": key, "n": n}), keys, numbers),
        st.builds(
            lambda k, n: BoundStatement(_put, {"owner_id": k, "line": n, "n": n}), keys, numbers
        ),
        st.builds(lambda key: BoundStatement(_double, {"key": key}), keys),
        st.builds(lambda key, by: BoundStatement(_raise, {"key": key, "by": by}), keys, numbers),
        # An owner without a number is refused.
        st.builds(
            lambda key, n: BoundStatement(_set, {"key": key, "n": n}), keys, st.none() | numbers
        ),
        st.builds(lambda key, n: BoundStatement(_set, {"key": key, "note": str(n)}), keys, numbers),
        st.builds(
            lambda key, n: BoundStatement(_set, {"key": key, "note": str(n), "n": n}), keys, numbers
        ),
        st.builds(lambda key, n: BoundStatement(_copy, {"key": key, "number": n}), keys, numbers),
        st.builds(lambda key: BoundStatement(_clear, {"key": key}), keys),
        st.builds(lambda key: BoundStatement(_remove, {"key": key}), keys),
        st.builds(
            lambda several: BoundStatement(_some, {"keys": several}), st.lists(keys, max_size=2)
        ),
        st.builds(lambda most: BoundStatement(_spread, {"most": most}), numbers),
        st.builds(lambda n: update(owner).values(n=owner.c.n + n), numbers),
    ),
    max_size=30,
)

_start: list[Change] = [BoundStatement(_add, {"id": key, "n": 1}) for key in "abc"]


@pytest.fixture(scope="module")
def in_memory() -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA foreign_keys=ON"))
    with engine.connect() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def outcome(connection: Connection, *parts: Sequence[Change]) -> object:
    """The rows after the changes, each part in its own batches; or that one of them failed."""
    try:
        for several in parts:
            for batch in arranged(several):
                batch.execute(connection)
        return [
            connection.execute(select(each).order_by(*each.primary_key.columns)).all()
            for each in (owner, part)
        ]
    except IntegrityError:
        return "failed"
    finally:
        connection.rollback()


def possible(connection: Connection, several: list[Change]) -> list[Change]:
    """Those that do not fail, executed in order."""
    made: list[Change] = []
    for change in several:
        with suppress(IntegrityError):
            for batch in arranged([change]):
                batch.execute(connection)
            made.append(change)
    connection.rollback()
    return made


@given(changes)
def test_batches_lead_to_what_the_changes_lead_to_in_their_order(
    in_memory: Connection, several: list[Change]
) -> None:
    several = [*_start, *several]
    made = possible(in_memory, several)
    assert outcome(in_memory, made) == outcome(in_memory, *([each] for each in made))
    assert (outcome(in_memory, several) == "failed") == (made != several)


def test_changes_of_one_row_keep_their_order(in_memory: Connection) -> None:
    several = [
        BoundStatement(statement, {"key": key} | values)
        for key in "abc"
        for statement, values in [(_double, {}), (_raise, {"by": 5}), (_double, {})]
    ]
    assert len(arranged(several)) == 3
    owners = [("a", 14, None), ("b", 14, None), ("c", 14, None)]
    assert outcome(in_memory, _start, several) == [owners, []]


def test_changes_of_other_columns_and_tables_do_not_part_equal_ones(in_memory: Connection) -> None:
    several = [
        change
        for number in range(5)
        for key in "abc"
        for change in [
            BoundStatement(_set, {"key": key, "note": f"{number}"}),
            BoundStatement(_put, {"owner_id": key, "line": number, "n": number}),
            BoundStatement(_raise, {"key": key, "by": number}),
        ]
    ]
    assert [len(each.values) for each in arranged(several)] == [15, 15, 15]
    owners = [(key, 11, "4") for key in "abc"]
    parts = [(key, number, number) for key in "abc" for number in range(5)]
    assert outcome(in_memory, _start, several) == [owners, parts]


def test_a_change_without_a_scope_is_not_reordered() -> None:
    spread = BoundStatement(_spread, {"most": 9})
    several = [BoundStatement(_double, {"key": key}) for key in "abc"]
    assert len(arranged(several)) == 1
    assert len(arranged([several[0], spread, spread, *several[1:]])) == 3
    assert len(arranged([spread, *several, spread])) == 3


async def project(database: Database, log: MemoryLog, page: int, *several: Projection) -> None:
    def work(connection: Connection) -> None:
        claimed(connection, *several)
        for begin in range(0, log.end, page):
            events = log.events[begin : begin + page]
            until = events[-1].position
            starts = [ExpectedCheckpoint(each, begin) for each in several]
            apply(connection, starts, events, until, time_of(0))

    await database.transact(work)


async def contents(database: Database, *several: Projection) -> dict[str, list[Any]]:
    def read(connection: Connection) -> dict[str, list[Any]]:
        return {
            each.name: list(connection.execute(select(each).order_by(*each.primary_key.columns)))
            for projection in several
            for each in projection.tables
        }

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


async def test_a_page_leads_to_the_same_rows_as_one_event_after_the_other(
    database: Database, nix_log: MemoryLog, sqlite_read_model: Any
) -> None:
    add_history(nix_log, aggregates=30)
    projections = (*nix_projections(), audit)
    await project(database, nix_log, 400, *projections)

    async with Database(
        sqlite_read_model.with_name("other.sqlite"), migrations=nix_migrations()
    ) as other:
        await other.migrate()
        await project(other, nix_log, 1, *projections)
        assert await contents(database, *projections) == await contents(other, *projections)


async def test_a_page_takes_few_statements(database: Database, nix_log: MemoryLog) -> None:
    add_history(nix_log, aggregates=30)
    projections = (*nix_projections(), audit)
    sent: list[str] = []

    def work(connection: Connection) -> None:
        starts = claimed(connection, *projections)

        @event.listens_for(connection, "before_cursor_execute")
        def count(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            sent.append(statement)

        apply(connection, starts, nix_log.events, nix_log.end, time_of(0))

    await database.transact(work)
    assert len(nix_log.events) == 720
    assert len(sent) < 90


_insert = insert(table("first"))


def bound(*, fails_at: int = 0, **options: Any) -> Projection:
    """The database refuses rows of thirteen; a handler may fail, too."""
    projection = Projection("first", tables=[table("first")], **options)

    @projection.handles
    def counted(event: Counted, recorded: RecordedEvent) -> BoundStatement:
        if recorded.position == fails_at:
            raise ValueError("not this one")
        by = None if event.by == 13 else event.by
        values = {"position": recorded.position, "counter": recorded.aggregate_id, "by": by}
        return BoundStatement(_insert, values)

    return projection


@pytest.fixture
async def tables(database: Database) -> Database:
    table("first")
    await make_tables(database)
    return database


@pytest.mark.parametrize(
    ("fails_at", "culprit", "cause"),
    [(0, 7, IntegrityError), (8, 7, IntegrityError), (6, 6, ValueError)],
    ids=["row", "row before handler", "handler before row"],
)
async def test_what_fails_among_others_names_its_event(
    log: MemoryLog, tables: Database, fails_at: int, culprit: int, cause: type[Exception]
) -> None:
    projection = bound(fails_at=fails_at)
    log.add("c", *(Counted(by=number) for number in (1, 2, 3, 4, 5, 6, 13, 8, 13)))

    with pytest.raises(PoisonEvent) as stopped:
        await project(tables, log, 100, projection)

    assert stopped.value.position == culprit
    assert stopped.value.event_id == log.events[culprit - 1].id
    assert isinstance(stopped.value.__cause__, cause)
    assert await rows_of(tables, projection) == []


async def test_a_page_takes_no_savepoint_if_another_transaction_finds_what_fails(
    log: MemoryLog, tables: Database
) -> None:
    projection, savepoints = bound(), list[str]()
    log.add("c", *(Counted(by=number) for number in (1, 2, 3, 13, 13)))

    def work(connection: Connection, until: int) -> None:
        event.listen(connection, "savepoint", lambda _, name: savepoints.append(name))
        start = claimed(connection, projection)
        apply(connection, start, log.events, until, time_of(0), savepoints=False)

    await tables.transact(lambda connection: work(connection, 3))
    assert len(await rows_of(tables, projection)) == 3
    with pytest.raises(ProjectionFailed) as failed:
        await tables.transact(lambda connection: work(connection, 5))
    assert not isinstance(failed.value, PoisonEvent)
    assert isinstance(failed.value.__cause__, IntegrityError)
    assert savepoints == []


async def test_those_that_fail_are_parked_and_all_others_are_there(
    log: MemoryLog, tables: Database
) -> None:
    projection = bound(on_poison="park", retries=0)
    for number in (1, 2, 3, 4, 13, 6, 7, 13, 9):
        log.add(f"c{number}", Counted(by=number))
    log.add("c13", Counted(by=11))

    async with following(worker_of(log, tables, projection)) as worker:
        await worker.wait(10, BOUND)

    assert await rows_of(tables, projection) == [(n, n) for n in (1, 2, 3, 4, 6, 7, 9)]
    parked = await tables.transact(list_parked)
    assert [(each.position, each.error is None) for each in parked] == [
        (5, False),
        (8, True),
        (10, True),
    ]


async def test_a_lock_that_a_batch_meets_is_waited_out(
    log: MemoryLog, postgresql_read_model: str
) -> None:
    projection = bound()
    log.add("c", *(Counted(by=number) for number in range(1, 10)))

    async with Database(postgresql_read_model) as database:
        await make_tables(database)
        other = await asyncpg.connect(postgresql_read_model)
        taken = other.transaction()
        await taken.start()
        await other.execute("INSERT INTO first VALUES (5, 'c', 5)")
        tries = 0

        def work(connection: Connection) -> None:
            nonlocal tries
            tries += 1
            connection.execute(text("SET LOCAL lock_timeout = 10"))
            apply(connection, claimed(connection, projection), log.events, log.end, time_of(0))

        with pytest.raises(DBAPIError, match="lock timeout"):
            await database._backend.write(work)
        await taken.rollback()
        await other.close()
        await database.transact(work)
        assert tries == 2
        assert await rows_of(database, projection) == [(n, n) for n in range(1, 10)]
        assert await position_in(database, projection) == 9
