"""Rebuilds of tables of any kind, and beside whatever others have in the same database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Connection,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    UniqueConstraint,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, CITEXT, DOMAIN, ENUM

from eventstore.errors import CannotReplace
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.projections.database import Database
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.rebuild import Rebuild, auto_rebuild
from eventstore.projections.rebuild.plan import Plan, plan
from eventstore.projections.rebuild.shadow import opened_shadow, shadow_position
from eventstore.projections.rebuild.switch import reset
from eventstore.projections.worker import ProjectionWorker
from eventstore.store.store import EventStore
from projections import nix_projections

BOUND = 45.0
Handler = Callable[[Any, RecordedEvent], Statement | Sequence[Statement]]


class Placed(Event, subject="order.placed"):
    total: int
    customer: str = "ann"


class Registered(Event, subject="customer.registered"):
    name: str


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return Codec(domain_name, commands=[], events=[Placed, Registered])


@pytest.fixture
async def database(read_model: str) -> AsyncIterator[Database]:
    async with Database(read_model) as database:
        yield database


@pytest.fixture
async def postgresql(postgresql_read_model: str) -> AsyncIterator[Database]:
    async with Database(postgresql_read_model) as database:
        yield database


@pytest.fixture
async def placed(store: EventStore) -> EventStore:
    """A log with three orders, of 10, 20 and 30."""
    for number in (1, 2, 3):
        await store.append("order", f"o{number}", Placed(total=10 * number))
    return store


def projecting(
    handler: Handler, *tables: Table, version: int = 1, name: str = "orders"
) -> Projection:
    projection = Projection(name, version=version, tables=tables, retries=0)
    projection.handles(handler)
    return projection


def orders(rows: Table, version: int = 1, **more: Callable[[Placed], object]) -> Projection:
    """A projection with one row an order, and further columns by their keys."""

    def placed(event: Placed, recorded: RecordedEvent) -> Statement:
        values = {key: value(event) for key, value in more.items()}
        return insert(rows).values({"id": recorded.aggregate_id} | values)

    return projecting(placed, rows, version=version)


def total(event: Placed) -> int:
    return event.total


def table_of(*columns: Any, name: str = "shop_order", **options: Any) -> Table:
    return Table(
        name,
        options.pop("metadata", None) or MetaData(),
        Column("id", String(64), primary_key=True),
        *columns,
        **options,
    )


async def follow(store: EventStore, database: Database, *projections: Projection) -> None:
    """Bring the live rows to the end of the log, rebuilding those of another version."""
    worker = ProjectionWorker(
        store,
        database,
        projections,
        rebuild=auto_rebuild(store, database),
        on_progress=lambda _position, pending: None if pending else worker.stop(),
    )
    await worker.run()


async def rebuild(store: EventStore, database: Database, projection: Projection) -> None:
    await Rebuild(store, database, projection, retry_timeout=5).run()


async def execute(database: Database, *statements: str) -> None:
    def work(connection: Connection) -> None:
        for each in statements:
            connection.execute(text(each))

    await database.transact(work)


async def rows_of(database: Database, what: Table | Select[Any] | str) -> list[tuple[Any, ...]]:
    """All rows, sorted, or what a statement reads."""
    statement = text(what) if isinstance(what, str) else what
    if isinstance(statement, Table):
        statement = select(statement)
    async with database.engine.connect() as connection:
        return sorted(tuple(row) for row in await connection.execute(statement))


async def read(database: Database, work: Callable[[Connection], Any]) -> Any:
    async with database.engine.connect() as connection:
        return await connection.run_sync(work)


ACTIONS = ["CASCADE", "RESTRICT", "SET NULL", "NO ACTION"]


async def with_note(
    store: EventStore, database: Database, projection: Projection, action: str = "CASCADE"
) -> None:
    """The projection's rows, and a note of somebody else's on the first order."""
    await database.create_tables(projection.tables)
    await follow(store, database, projection)
    await execute(
        database,
        "CREATE TABLE note (id INTEGER PRIMARY KEY, "
        f"order_id VARCHAR(64) REFERENCES shop_order (id) ON DELETE {action})",
        "INSERT INTO note VALUES (1, 'o1')",
    )


@pytest.mark.parametrize("action", ACTIONS)
async def test_rows_of_others_that_refer_to_the_projections_stay(
    placed: EventStore, database: Database, action: str
) -> None:
    rows = table_of(Column("total", Integer), Column("note", Enum("old", "new", name="noted")))
    await with_note(placed, database, orders(rows, total=total), action)
    await placed.append("order", "o4", Placed(total=40))

    def negative(event: Placed) -> int:
        return -event.total

    await rebuild(placed, database, orders(rows, 2, total=negative, note=lambda _: "new"))

    assert await rows_of(database, "SELECT * FROM note") == [(1, "o1")]
    assert await rows_of(database, rows) == [
        (f"o{number}", -10 * number, "new") for number in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL"])
async def test_a_row_that_others_refer_to_is_not_lost(
    placed: EventStore, database: Database, action: str
) -> None:
    rows = table_of(Column("total", Integer))
    await with_note(placed, database, orders(rows, total=total), action)

    def but_one(event: Placed, recorded: RecordedEvent) -> Sequence[Statement]:
        return [insert(rows).values(id=recorded.aggregate_id)] * (event.total != 10)

    with pytest.raises(CannotReplace, match="rows of table note refer to rows of shop_order"):
        await rebuild(placed, database, projecting(but_one, rows, version=2))

    assert await rows_of(database, "SELECT * FROM note") == [(1, "o1")]
    assert await rows_of(database, rows) == [("o1", 10), ("o2", 20), ("o3", 30)]
    await execute(database, "DELETE FROM note")
    await rebuild(placed, database, projecting(but_one, rows, version=2))
    assert await rows_of(database, rows) == [("o2", None), ("o3", None)]


async def test_a_table_that_others_refer_to_does_not_change(
    placed: EventStore, database: Database
) -> None:
    await with_note(placed, database, projection_of(with_total(), 1))
    changed = projection_of(with_total(Column("customer", String(9))), 2)

    with pytest.raises(CannotReplace, match="note refers to shop_order, whose definition has"):
        await rebuild(placed, database, changed)

    assert await rows_of(database, "SELECT * FROM note") == [(1, "o1")]
    assert await rows_of(database, with_total()) == [("o1", 10), ("o2", 20), ("o3", 30)]
    assert await shadow_position(database, changed) is None


async def test_generated_keys_that_others_refer_to_are_named(
    placed: EventStore, database: Database
) -> None:
    rows = Table("numbered", MetaData(), Column("id", Integer, primary_key=True))
    projection = Projection("orders", tables=[rows])

    @projection.handles
    def placed_(_event: Placed) -> Statement:
        return insert(rows)

    await database.create_tables([rows])
    await follow(placed, database, projection)
    await execute(database, "CREATE TABLE note (id INTEGER REFERENCES numbered (id))")

    with pytest.raises(CannotReplace, match="note refers to numbered, whose keys are generated"):
        await rebuild(placed, database, projection)


async def test_a_reset_deletes_nothing_of_others(placed: EventStore, database: Database) -> None:
    await with_note(placed, database, projection_of(with_total(), 1))

    with pytest.raises(CannotReplace, match="table note refers to shop_order"):
        await database.transact(lambda c: reset(c, projection_of(with_total(), 1)))

    assert await rows_of(database, "SELECT * FROM note") == [(1, "o1")]


TRIGGERS = {
    "sqlite": [
        "CREATE TRIGGER noted AFTER DELETE ON shop_order "
        "BEGIN INSERT INTO note (text) VALUES (old.id); END"
    ],
    "postgresql": [
        "CREATE FUNCTION note_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO note (text) VALUES (old.id); RETURN NULL; END $$",
        "CREATE TRIGGER noted AFTER DELETE ON shop_order FOR EACH ROW EXECUTE FUNCTION note_it()",
    ],
}


async def test_a_trigger_would_write_rows_of_others(placed: EventStore, database: Database) -> None:
    rows = table_of(Column("total", Integer))
    await database.create_tables([rows])
    await follow(placed, database, orders(rows, total=total))
    await execute(database, "CREATE TABLE note (text VARCHAR(64))")
    await execute(database, *TRIGGERS["sqlite" if database.path else "postgresql"])

    with pytest.raises(CannotReplace, match="trigger noted on table shop_order"):
        await rebuild(placed, database, orders(rows, total=total))

    assert await rows_of(database, "SELECT * FROM note") == []


def with_total(*more: Any, **options: Any) -> Table:
    return table_of(Column("total", Integer), *more, **options)


CHANGES: dict[str, tuple[Callable[[], Table], Callable[[], Table]]] = {
    "a new column": (with_total, lambda: with_total(Column("customer", String(9)))),
    "a dropped column": (lambda: with_total(Column("customer", String(9))), with_total),
    "a renamed column": (
        lambda: table_of(Column("sum", Integer, key="total"), Index("by_total", "total")),
        lambda: with_total(Index("by_total", "total")),
    ),
    "another type": (
        lambda: with_total(Column("customer", String(5))),
        lambda: with_total(Column("customer", String(50))),
    ),
    "not null": (with_total, lambda: table_of(Column("total", Integer, nullable=False))),
    "another key": (with_total, lambda: table_of(Column("total", Integer, primary_key=True))),
    "a unique key": (with_total, lambda: with_total(UniqueConstraint("total"))),
    "a check": (with_total, lambda: with_total(CheckConstraint("total > 0", name="positive"))),
    "another check": (
        lambda: with_total(CheckConstraint("total > 1", name="positive")),
        lambda: with_total(CheckConstraint("total > 0", name="positive")),
    ),
    "a computed column": (
        with_total,
        lambda: with_total(Column("twice", Integer, Computed("total * 2", persisted=True))),
    ),
    "a comment and reserved words": (
        lambda: table_of(Column("total", Integer), name="Order", comment="orders"),
        lambda: table_of(
            Column("total", Integer), Column("select", String(9), key="customer"), name="Order"
        ),
    ),
    "an enumeration": (with_total, lambda: with_total(Column("customer", Enum("ann", name="who")))),
    "another enumeration": (
        lambda: with_total(Column("customer", Enum("ann", "bob", name="who"))),
        lambda: with_total(Column("customer", Enum("cid", "ann", name="who"))),
    ),
    "a default": (with_total, lambda: with_total(Column("state", Integer, server_default="7"))),
}


def projection_of(rows: Table, version: int) -> Projection:
    values: dict[str, Callable[[Placed], object]] = {"total": total}
    if "customer" in rows.c:
        values["customer"] = lambda event: event.customer
    return orders(rows, version, **values)


async def definition(database: Database, rows: Table) -> tuple[Any, ...]:
    """What a database says of a table."""

    def look(connection: Connection) -> tuple[Any, ...]:
        inspector = inspect(connection)
        columns = [
            (
                *(each["name"], str(each["type"]), each["nullable"], each["default"]),
                *(getattr(each["type"], "enums", None), bool(each.get("computed"))),
            )
            for each in inspector.get_columns(rows.name)
        ]
        return (
            columns,
            inspector.get_pk_constraint(rows.name)["constrained_columns"],
            [each["column_names"] for each in inspector.get_unique_constraints(rows.name)],
            [each["sqltext"] for each in inspector.get_check_constraints(rows.name)],
            [(each["name"], each["column_names"]) for each in inspector.get_indexes(rows.name)],
        )

    found: tuple[Any, ...] = await read(database, look)
    return found


@pytest.mark.parametrize("change", CHANGES)
async def test_a_raised_version_changes_tables(
    placed: EventStore, database: Database, change: str
) -> None:
    before, after = (make() for make in CHANGES[change])
    await database.create_tables([before])
    await follow(placed, database, projection_of(before, 1))

    await database.create_tables([after])
    await follow(placed, database, projection_of(after, 2))
    await placed.append("order", "o4", Placed(total=40))
    await follow(placed, database, projection_of(after, 2))

    assert [row[: after.c.keys().index("total") + 1] for row in await rows_of(database, after)] == [
        (f"o{number}", 10 * number) for number in (1, 2, 3, 4)
    ]
    changed = await definition(database, after)
    await execute(database, f'DROP TABLE "{after.name}"')
    await database.create_tables([after])
    assert changed == await definition(database, after)


async def test_a_table_that_was_dropped_is_created(placed: EventStore, database: Database) -> None:
    rows = with_total(Index("by_total", "total"))
    await database.create_tables([rows])
    await follow(placed, database, projection_of(rows, 1))
    await execute(database, "DROP TABLE shop_order")

    await rebuild(placed, database, projection_of(rows, 1))

    assert await rows_of(database, rows) == [("o1", 10), ("o2", 20), ("o3", 30)]


async def test_indexes_change_without_the_table(placed: EventStore, database: Database) -> None:
    before = with_total(Index("one", "total"), Index("two", "id", "total"))
    after = with_total(Index("one", "total", "id"), Index("three", "total"))
    await database.create_tables([before])
    await follow(placed, database, projection_of(before, 1))
    await execute(
        database,
        "CREATE VIEW totals AS SELECT id, total FROM shop_order",
        "CREATE INDEX mine ON shop_order (total, id)",
    )

    await follow(placed, database, projection_of(after, 2))

    found = dict((await definition(database, after))[-1])
    assert found == {"one": ["total", "id"], "three": ["total"], "mine": ["total", "id"]}
    assert await rows_of(database, "SELECT * FROM totals") == [("o1", 10), ("o2", 20), ("o3", 30)]


async def test_a_key_that_is_no_longer_declared_forbids_nothing(
    placed: EventStore, database: Database
) -> None:
    """Also if the table is created anew, and if the declaration changed before the version."""
    before = with_total(Index("only", "total", unique=True), Index("mine", "id"))
    await database.create_tables([before])
    await follow(placed, database, projection_of(before, 1))
    await follow(placed, database, projection_of(with_total(), 1))

    await follow(placed, database, orders(with_total(), 2, total=lambda _: 1))
    assert (await definition(database, before))[-1] == []

    await execute(database, "CREATE INDEX mine ON shop_order (total, id)")
    after = with_total(Column("customer", String(9)))
    await follow(placed, database, orders(after, 3, total=lambda _: 1))
    assert (await definition(database, after))[-1] == [("mine", ["total", "id"])]


async def test_a_view_of_what_is_not_there_any_more_is_named(
    placed: EventStore, database: Database
) -> None:
    before = with_total(Column("customer", String(9)))
    await database.create_tables([before])
    await follow(placed, database, projection_of(before, 1))
    await execute(database, "CREATE VIEW customers AS SELECT id, customer FROM shop_order")

    with pytest.raises(CannotReplace, match=r"view customers depends on .*shop_order"):
        await rebuild(placed, database, projection_of(with_total(), 2))

    assert len(await rows_of(database, "SELECT * FROM customers")) == 3
    assert await shadow_position(database, projection_of(before, 1)) is None


async def test_what_others_added_to_a_table_stays(
    placed: EventStore, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    before = with_total(Column("customer", String(9)))
    await database.create_tables([before])
    await follow(placed, database, projection_of(before, 1))
    await execute(
        database,
        "CREATE INDEX mine ON shop_order (total DESC)",
        "CREATE INDEX lost ON shop_order (customer)",
    )
    if database.path is None:
        await execute(
            database,
            "CREATE ROLE reporting",
            "GRANT SELECT ON shop_order TO reporting WITH GRANT OPTION",
            "GRANT UPDATE (total) ON shop_order TO PUBLIC",
        )

    await rebuild(placed, database, projection_of(with_total(), 2))

    assert [name for name, _ in (await definition(database, before))[-1]] == ["mine"]
    assert ["CREATE INDEX lost" in message for message in caplog.messages].count(True) == 1
    if database.path is None:
        granted = (
            "SELECT grantee::text, privilege_type::text, is_grantable::text FROM "
            "information_schema.{} WHERE table_name = 'shop_order' AND grantee <> 'tests'{}"
        )
        assert await rows_of(database, granted.format("role_table_grants", "")) == [
            ("reporting", "SELECT", "YES")
        ]
        of_column = await rows_of(
            database, granted.format("column_privileges", " AND grantee = 'PUBLIC'")
        )
        assert of_column == [("PUBLIC", "UPDATE", "NO")]
        await execute(database, "DROP OWNED BY reporting", "DROP ROLE reporting")


LINKS: dict[str, dict[str, Any]] = {
    "cascade": {"ondelete": "CASCADE"},
    "restrict": {"ondelete": "RESTRICT"},
    "deferred": {"deferrable": True, "initially": "DEFERRED"},
    "plain": {},
}


@pytest.mark.parametrize("link", LINKS)
async def test_tables_that_refer_to_each_other(
    placed: EventStore, database: Database, link: str
) -> None:
    def make(length: int) -> list[Table]:
        metadata = MetaData()
        order = table_of(
            Column("last_line", String(length)),
            ForeignKeyConstraint(["last_line"], ["line.id"], name="fk_last", **LINKS[link]),
            metadata=metadata,
        )
        line = table_of(
            Column("order_id", ForeignKey("shop_order.id", **LINKS[link])),
            Column("before", ForeignKey("line.id", **LINKS[link])),
            name="line",
            metadata=metadata,
        )
        return [order, line]

    def projection_of(version: int, length: int) -> Projection:
        order, line = make(length)

        def placed(_event: Placed, recorded: RecordedEvent) -> Sequence[Statement]:
            own = recorded.aggregate_id
            return [
                insert(order).values(id=own),
                insert(line).values(id=f"{own}-1", order_id=own),
                insert(line).values(id=f"{own}-2", order_id=own, before=f"{own}-1"),
                update(order).where(order.c.id == own).values(last_line=f"{own}-2"),
            ]

        return projecting(placed, order, line, version=version)

    first, second = projection_of(1, 64), projection_of(2, 70)
    await database.create_tables(first.tables)
    await follow(placed, database, first)
    before = [await rows_of(database, table) for table in first.tables]

    await rebuild(placed, database, first)
    assert [await rows_of(database, table) for table in first.tables] == before
    await rebuild(placed, database, second)

    assert [await rows_of(database, table) for table in first.tables] == before
    assert before[0][0] == ("o1", "o1-2")


async def customers_and_orders(
    store: EventStore, database: Database, action: str
) -> list[Projection]:
    """Two projections, the second of which refers to rows of the first; both are brought up."""
    metadata = MetaData()
    customer = table_of(Column("name", String(9)), name="customer", metadata=metadata)
    order = with_total(
        Column("customer", ForeignKey("customer.id", ondelete=action)), metadata=metadata
    )

    def registered(event: Registered, recorded: RecordedEvent) -> Statement:
        return insert(customer).values(id=recorded.aggregate_id, name=event.name)

    customers = projecting(registered, customer, name="customers")
    await store.append("customer", "ann", Registered(name="Ann"))
    await store.append("order", "o1", Placed(total=10))
    await database.create_tables([customer, order])
    both = [customers, projection_of(order, 1)]
    await follow(store, database, *both)
    return both


@pytest.mark.parametrize("action", ["CASCADE", "RESTRICT"])
async def test_a_table_that_refers_to_that_of_another_projection(
    store: EventStore, database: Database, action: str
) -> None:
    customers, orders = await customers_and_orders(store, database, action)

    await rebuild(store, database, orders)
    await rebuild(store, database, customers)

    assert await rows_of(database, orders.tables[0]) == [("o1", 10, "ann")]
    assert await rows_of(database, customers.tables[0]) == [("ann", "Ann")]


@pytest.mark.parametrize(
    ("action", "left"), [("CASCADE", []), ("SET NULL", [("o1", 10, None)]), ("NO ACTION", None)]
)
async def test_what_the_other_projection_has_deleted(
    store: EventStore, database: Database, action: str, left: list[tuple[Any, ...]] | None
) -> None:
    _, orders = await customers_and_orders(store, database, action)
    await execute(database, "UPDATE shop_order SET customer = NULL", "DELETE FROM customer")

    if left is None:
        with pytest.raises(CannotReplace, match="new rows do not fit into its tables"):
            await rebuild(store, database, orders)
        left = [("o1", 10, None)]
    else:
        await rebuild(store, database, orders)

    assert await rows_of(database, orders.tables[0]) == left


async def test_types_and_schemas_of_postgresql(placed: EventStore, postgresql: Database) -> None:
    """Whatever a column's type is, and wherever it and the table are."""
    await execute(
        postgresql,
        "CREATE SCHEMA sales",
        "CREATE SCHEMA types",
        "CREATE EXTENSION citext",
        "CREATE TYPE own AS ENUM ('ann')",
    )
    metadata = MetaData(schema="sales")
    number = Table("number", metadata, Column("id", Integer, Identity(), primary_key=True))
    rows = table_of(
        Column("number_id", ForeignKey(number.c.id)),
        Column("total", Integer),
        Column("name", CITEXT),
        Column("who", Enum("ann", "bob", name="who")),
        Column("place", Enum("ann", name="place", schema="types")),
        Column("all", ARRAY(Enum("ann", name="member"))),
        Column("own", ENUM("ann", name="own", schema=None, create_type=False)),
        Index("by_name", "name"),
        metadata=metadata,
    )
    other = table_of(
        Column("total", Integer), Column("made", Integer, primary_key=True), name="shop_order"
    )

    def placed_(event: Placed, recorded: RecordedEvent) -> Sequence[Statement]:
        own = recorded.aggregate_id
        who = event.customer
        return [
            insert(number).values(),
            insert(rows).values(
                id=own, total=event.total, name=who, who=who, place=who, all=[who], own=who
            ),
            insert(other).values(id=own, total=-event.total, made=1),
        ]

    first = projecting(placed_, rows, number, other)
    await postgresql.create_tables(first.tables)
    await follow(placed, postgresql, first)
    before = [await rows_of(postgresql, table) for table in first.tables]

    await rebuild(placed, postgresql, first)

    assert [await rows_of(postgresql, table) for table in first.tables] == before
    assert before[0][0] == ("o1", None, 10, "ann", "ann", "ann", ["ann"], "ann")
    schemas = "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%rebuild%'"
    assert await rows_of(postgresql, schemas) == []


async def test_what_rows_that_stay_refer_to_stays(placed: EventStore, database: Database) -> None:
    """Others refer to lines, and lines to orders, from which they would be deleted."""
    metadata = MetaData()
    order = with_total(metadata=metadata)
    line = table_of(
        Column("order_id", ForeignKey("shop_order.id", ondelete="CASCADE")),
        Column("total", Integer),
        name="line",
        metadata=metadata,
    )

    def by(factor: int, version: int) -> Projection:
        def placed(event: Placed, recorded: RecordedEvent) -> Sequence[Statement]:
            own, amount = recorded.aggregate_id, factor * event.total
            return [
                insert(order).values(id=own, total=amount),
                insert(line).values(id=f"{own}-1", order_id=own, total=amount),
            ]

        return projecting(placed, line, order, version=version)

    await database.create_tables([order, line])
    await follow(placed, database, by(1, 1))
    await execute(
        database,
        "CREATE TABLE note (id VARCHAR(64) REFERENCES line (id) ON DELETE CASCADE)",
        "INSERT INTO note VALUES ('o2-1')",
    )

    await rebuild(placed, database, by(5, 2))

    assert await rows_of(database, "SELECT * FROM note") == [("o2-1",)]
    assert await rows_of(database, order) == [("o1", 50), ("o2", 100), ("o3", 150)]
    assert await rows_of(database, select(line.c.id, line.c.total)) == [
        *(("o1-1", 50), ("o2-1", 100), ("o3-1", 150))
    ]


async def test_the_tables_of_the_migrations_are_as_they_are_declared(database: Database) -> None:
    """So no rebuild of what ships recreates them."""
    for each in nix_projections():
        async with opened_shadow(database, each, log="log", epoch=0, from_scratch=True) as shadow:
            to_do = await database.compare(shadow.database, partial(plan, projection=each))
        assert not any(to_do[2:]), each.name


async def test_keys_go_on_after_a_table_was_created_anew(
    placed: EventStore, database: Database
) -> None:
    def numbered(version: int, *more: Column[Any]) -> tuple[Table, Projection]:
        rows = Table(
            "numbered",
            MetaData(),
            Column("id", Integer, primary_key=True),
            Column("total", Integer),
            *more,
            sqlite_autoincrement=True,
        )

        def placed(event: Placed, _recorded: RecordedEvent) -> Statement:
            return insert(rows).values(total=event.total)

        return rows, projecting(placed, rows, version=version)

    before, first = numbered(1)
    after, second = numbered(2, Column("new", Integer))
    await database.create_tables([before])
    await follow(placed, database, first)
    await follow(placed, database, second)
    await placed.append("order", "o4", Placed(total=40))
    await follow(placed, database, second)

    assert await rows_of(database, after) == [(n, 10 * n, None) for n in (1, 2, 3, 4)]


@pytest.mark.parametrize("where", ["total > 15", "total > 5"])
async def test_indexes_of_any_kind(placed: EventStore, database: Database, where: str) -> None:
    def indexed(condition: str) -> Table:
        rows = with_total(metadata=MetaData(schema="public" if database.path is None else "main"))
        Index("some", rows.c.total.desc(), func.lower(rows.c.id), unique=True)
        options: dict[str, Any] = dict.fromkeys(
            ("sqlite_where", "postgresql_where"), text(condition)
        )
        Index("a_very_long_name_of_an_index_" + "x" * 30, rows.c.total, **options)
        return rows

    before, after = indexed("total > 15"), indexed(where)
    await database.create_tables([before])
    await follow(placed, database, orders(before, total=total))
    await execute(database, "CREATE VIEW totals AS SELECT total FROM shop_order")

    def look(connection: Connection, of: Callable[[Table], Table]) -> Plan:
        return plan(connection, of, projection=orders(after, 2))

    async with opened_shadow(
        database, orders(after, 2), log="log", epoch=0, from_scratch=True
    ) as at:
        to_do = await database.compare(at.database, look)
    assert len(to_do.indexes) == (where != "total > 15")
    await rebuild(placed, database, orders(after, 2, total=total))

    assert await rows_of(database, "SELECT total FROM totals") == [(10,), (20,), (30,)]


async def test_an_enumeration_that_others_use_is_not_changed(
    placed: EventStore, postgresql: Database
) -> None:
    before = with_total(Column("customer", Enum("ann", name="who")))
    after = with_total(Column("customer", Enum("ann", "bob", name="who")))
    await postgresql.create_tables([before])
    await follow(placed, postgresql, projection_of(before, 1))
    await execute(postgresql, "CREATE TABLE note (whose who[])")

    with pytest.raises(CannotReplace, match="column whose of table note depends"):
        await rebuild(placed, postgresql, projection_of(after, 2))

    await execute(postgresql, "DROP TABLE note")
    await rebuild(placed, postgresql, projection_of(after, 2))


async def test_other_processes_go_on_after_a_table_was_created_anew(
    placed: EventStore, postgresql_read_model: str
) -> None:
    before = with_total(Column("customer", Enum("ann", name="who")))
    after = with_total(Column("customer", Enum("bob", "ann", name="who")))
    async with Database(postgresql_read_model) as here, Database(postgresql_read_model) as there:
        await here.create_tables([before])
        for database in (here, there):
            await follow(placed, database, projection_of(before, 1))
            await placed.append("order", f"{database is here}", Placed(total=1))
            await follow(placed, database, projection_of(before, 1))

        await rebuild(placed, here, projection_of(after, 2))

        for number, database in enumerate((there, here)):
            await placed.append("order", f"later{number}", Placed(total=1))
            await follow(placed, database, projection_of(after, 2))
        assert len(await rows_of(here, after)) == 7


async def test_a_table_in_a_schema_changes_beside_one_of_the_same_name(
    placed: EventStore, postgresql: Database
) -> None:
    await execute(postgresql, "CREATE SCHEMA sales")

    def both(version: int, *more: Column[Any]) -> Projection:
        here = with_total()
        there = with_total(*more, metadata=MetaData(schema="sales"))

        def placed(event: Placed, recorded: RecordedEvent) -> Sequence[Statement]:
            row = {"id": recorded.aggregate_id, "total": event.total}
            return [insert(here).values(row | {"total": 0}), insert(there).values(row)]

        return projecting(placed, here, there, version=version)

    first, second = both(1), both(2, Column("new", Integer))
    await postgresql.create_tables(first.tables)
    await follow(placed, postgresql, first)
    await execute(
        postgresql,
        "CREATE INDEX mine ON sales.shop_order (total)",
        "CREATE VIEW here AS SELECT * FROM shop_order",
    )

    await rebuild(placed, postgresql, second)

    here, there = second.tables
    assert await rows_of(postgresql, here) == [("o1", 0), ("o2", 0), ("o3", 0)]
    assert await rows_of(postgresql, there) == [
        ("o1", 10, None),
        ("o2", 20, None),
        ("o3", 30, None),
    ]
    indexes = "SELECT schemaname, indexname FROM pg_indexes WHERE indexname = 'mine'"
    assert await rows_of(postgresql, indexes) == [("sales", "mine")]


async def test_what_was_deleted_is_set_to_its_default(
    placed: EventStore, database: Database
) -> None:
    metadata = MetaData()
    Table("person", metadata, Column("id", String(9), primary_key=True))
    to_person = ForeignKey("person.id", ondelete="SET DEFAULT")
    rows = with_total(Column("customer", to_person, server_default="bob"), metadata=metadata)
    await database.create_tables([*metadata.sorted_tables])
    await execute(database, "INSERT INTO person VALUES ('ann'), ('bob')")
    await follow(placed, database, projection_of(rows, 1))
    await execute(
        database, "UPDATE shop_order SET customer = 'bob'", "DELETE FROM person WHERE id = 'ann'"
    )

    await rebuild(placed, database, projection_of(rows, 1))

    assert await rows_of(database, rows) == [
        (f"o{number}", 10 * number, "bob") for number in (1, 2, 3)
    ]


async def test_a_foreign_key_changes_without_the_table_that_it_refers_to(
    placed: EventStore, database: Database
) -> None:
    def both(version: int, **options: Any) -> Projection:
        metadata = MetaData()
        order = with_total(metadata=metadata)
        to_order = ForeignKey("shop_order.id", **options)
        line = table_of(Column("order_id", to_order), name="line", metadata=metadata)

        def placed(_event: Placed, recorded: RecordedEvent) -> Sequence[Statement]:
            row = insert(line).values(id=recorded.aggregate_id, order_id=recorded.aggregate_id)
            statements = [insert(order).values(id=recorded.aggregate_id), row]
            return statements[::-1] if options else statements

        return projecting(placed, order, line, version=version)

    first, second = both(1), both(2, deferrable=True, initially="DEFERRED")
    await database.create_tables(first.tables)
    await follow(placed, database, first)

    await follow(placed, database, second)
    await placed.append("order", "o4", Placed(total=40))
    await follow(placed, database, second)

    assert await rows_of(database, second.tables[1]) == [(f"o{n}", f"o{n}") for n in (1, 2, 3, 4)]


SQLITE_CHANGES: dict[str, tuple[Callable[[], Table], Callable[[], Table]]] = {
    "a collation": (
        lambda: with_total(Column("customer", String(9))),
        lambda: with_total(Column("customer", String(9, collation="NOCASE"))),
    ),
    "no row ids": (with_total, lambda: with_total(sqlite_with_rowid=False)),
    "what to do on a conflict": (
        lambda: with_total(UniqueConstraint("total")),
        lambda: with_total(UniqueConstraint("total", sqlite_on_conflict="IGNORE")),
    ),
}


@pytest.mark.parametrize("change", SQLITE_CHANGES)
async def test_changes_that_only_the_text_of_a_table_shows(
    placed: EventStore, sqlite_read_model: Path, change: str
) -> None:
    before, after = (make() for make in SQLITE_CHANGES[change])
    async with Database(sqlite_read_model) as database:
        await database.create_tables([before])
        await follow(placed, database, projection_of(before, 1))

        await follow(placed, database, projection_of(after, 2))

        text_of = "SELECT sql FROM sqlite_master WHERE name = 'shop_order'"
        changed = await rows_of(database, text_of)
        await execute(database, "DROP TABLE shop_order")
        await database.create_tables([after])
        assert changed == await rows_of(database, text_of)


async def test_types_change_wherever_they_are(placed: EventStore, postgresql: Database) -> None:
    await execute(postgresql, 'CREATE SCHEMA "Types"')

    def rows(least: int, *names: str) -> Table:
        amount = DOMAIN("amount", Integer, check=f"VALUE >= {least}")
        who = Enum(*names, name="who", schema="Types")
        return table_of(Column("total", amount), Column("customer", who))

    before, after = rows(10, "ann"), rows(0, "bob")
    await postgresql.create_tables([before])
    await follow(placed, postgresql, projection_of(before, 1))

    less = orders(after, 2, total=lambda event: event.total - 10, customer=lambda _: "bob")
    await rebuild(placed, postgresql, less)

    assert await rows_of(postgresql, after) == [
        (f"o{number + 1}", 10 * number, "bob") for number in (0, 1, 2)
    ]


async def test_a_partitioned_table(placed: EventStore, postgresql: Database) -> None:
    def rows(*more: Column[Any]) -> Table:
        total = Column("total", Integer, primary_key=True)
        return table_of(total, *more, postgresql_partition_by="RANGE (total)")

    await postgresql.create_tables([rows()])
    await execute(
        postgresql,
        "CREATE TABLE low PARTITION OF shop_order FOR VALUES FROM (0) TO (25)",
        "CREATE TABLE high PARTITION OF shop_order FOR VALUES FROM (25) TO (99)",
    )
    await follow(placed, postgresql, projection_of(rows(), 1))
    more = orders(rows(), 2, total=lambda event: event.total + 10)

    await rebuild(placed, postgresql, more)

    assert await rows_of(postgresql, "SELECT * FROM low") == [("o1", 20)]
    assert await rows_of(postgresql, "SELECT * FROM high") == [("o2", 30), ("o3", 40)]
    with pytest.raises(CannotReplace, match="partition low depends"):
        await rebuild(placed, postgresql, projection_of(rows(Column("new", Integer)), 3))
    await execute(
        postgresql,
        "CREATE TABLE note (id TEXT, total INTEGER, FOREIGN KEY (id, total) "
        "REFERENCES low (id, total) ON DELETE CASCADE)",
        "INSERT INTO note VALUES ('o1', 20)",
    )
    await rebuild(placed, postgresql, more)
    assert await rows_of(postgresql, "SELECT * FROM note") == [("o1", 20)]


async def test_rows_of_tables_that_inherit_stay(placed: EventStore, postgresql: Database) -> None:
    rows = with_total()
    await postgresql.create_tables([rows])
    await execute(
        postgresql,
        "CREATE TABLE special () INHERITS (shop_order)",
        "INSERT INTO special VALUES ('s')",
    )

    with pytest.raises(CannotReplace, match="table special, which inherits from shop_order, would"):
        await rebuild(placed, postgresql, projection_of(rows, 1))

    assert await rows_of(postgresql, "SELECT id FROM special") == [("s",)]


async def test_how_others_have_set_a_table_stays(placed: EventStore, postgresql: Database) -> None:
    before, after = with_total(), with_total(Column("customer", String(9)))
    await postgresql.create_tables([before])
    await follow(placed, postgresql, projection_of(before, 1))
    await execute(
        postgresql,
        "CREATE ROLE owning",
        "GRANT owning TO tests",
        "ALTER TABLE shop_order SET (fillfactor = 70)",
        "ALTER TABLE shop_order REPLICA IDENTITY FULL",
        "ALTER TABLE shop_order ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE shop_order FORCE ROW LEVEL SECURITY",
        "CREATE STATISTICS related ON id, total FROM shop_order",
        "COMMENT ON TABLE shop_order IS 'of the shop''s'",
        "COMMENT ON COLUMN shop_order.total IS 'in cents'",
        "ALTER TABLE shop_order OWNER TO owning",
    )
    settings = (
        "SELECT reloptions::text, relreplident::text, relrowsecurity, relforcerowsecurity, "
        "(SELECT stxname::text FROM pg_statistic_ext WHERE stxrelid = c.oid), "
        "obj_description(oid, 'pg_class'), col_description(oid, 2), relowner::regrole::text "
        "FROM pg_class c WHERE relname = 'shop_order'"
    )
    set_before = await rows_of(postgresql, settings)

    await rebuild(placed, postgresql, projection_of(after, 2))

    assert await rows_of(postgresql, settings) == set_before
    assert set_before[0][-2:] == ("in cents", "owning")
    await execute(postgresql, "DROP TABLE shop_order", "DROP ROLE owning")


async def test_a_table_of_another_owner_is_named(placed: EventStore, postgresql: Database) -> None:
    before, after = with_total(), with_total(Column("customer", String(9)))
    await postgresql.create_tables([before])
    await follow(placed, postgresql, projection_of(before, 1))
    await execute(
        postgresql,
        "CREATE ROLE serving LOGIN",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO serving",
        f"GRANT CREATE ON DATABASE {postgresql.url.database} TO serving",
    )

    async with Database(postgresql.url.set(username="serving").render_as_string()) as serving:
        with pytest.raises(CannotReplace, match="table shop_order has to change, and is not this"):
            await rebuild(placed, serving, projection_of(after, 2))
        await rebuild(placed, serving, projection_of(before, 2))

    await execute(postgresql, "DROP OWNED BY serving", "DROP ROLE serving")


async def test_what_the_database_refuses_is_told_in_words(
    placed: EventStore, postgresql: Database
) -> None:
    before = with_total(Index("one", "total", unique=True))
    await postgresql.create_tables([before])
    await follow(placed, postgresql, projection_of(before, 1))
    await execute(postgresql, "CREATE TABLE note (total INTEGER REFERENCES shop_order (total))")

    with pytest.raises(
        CannotReplace, match=r"drop index one because .* table note depends on index one. Nothing"
    ):
        await rebuild(placed, postgresql, projection_of(with_total(), 2))


async def test_unique_values_pass_from_one_row_that_stays_to_another(
    placed: EventStore, database: Database
) -> None:
    rows = with_total(UniqueConstraint("total"))
    await with_note(placed, database, orders(rows, total=total))
    await execute(database, "INSERT INTO note VALUES (2, 'o2'), (3, 'o3')")
    following = {10: 20, 20: 30, 30: 10}

    await rebuild(placed, database, orders(rows, 2, total=lambda e: following[e.total]))

    assert await rows_of(database, rows) == [("o1", 20), ("o2", 30), ("o3", 10)]
    assert len(await rows_of(database, "SELECT * FROM note")) == 3
