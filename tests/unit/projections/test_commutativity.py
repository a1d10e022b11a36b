"""Which changes have a scope: those that provably touch only the rows of one key."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    BigInteger,
    Column,
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    bindparam,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from eventstore.projections.audit.events import audit
from eventstore.projections.projection import BoundStatement, Statement
from eventstore.projections.worker.commutativity import scope_of
from projections import nix_projections
from tests.unit.projections.memory import MemoryLog
from tests.unit.projections.nix_history import add_history

metadata = MetaData()


def table(name: str, *rest: Any, key: Column[Any] | None = None) -> Table:
    key = Column("id", String(20), primary_key=True) if key is None else key
    return Table(name, metadata, key, Column("n", Integer), *rest)


def child(name: str, *rest: Any, of: str = "owner.id") -> Table:
    key = Column("owner_id", String(20), ForeignKey(of), primary_key=True)
    return Table(name, metadata, key, Column("line", Integer, primary_key=True), *rest)


class Lowered(TypeDecorator[str]):
    """Makes one of two different values."""

    impl = String
    cache_ok = True


owner = table("owner")
part = child("part", Column("n", Integer))
other = table("other")
mine = owner.c.id == bindparam("key")
copy = select(owner.c.id, owner.c.n).where(mine)
columns = ["owner_id", "line"]

SCOPED: dict[str, tuple[Statement, dict[str, Any]]] = {
    "insert": (insert(owner), {"id": "a", "n": 1}),
    "insert of a part": (insert(part), {"owner_id": "a", "line": 1}),
    "update": (update(owner).where(mine), {"key": "a", "n": 1}),
    "update to a value": (update(owner).where(mine).values(n=1), {"key": "a"}),
    "update by what is there": (update(owner).where(mine).values(n=owner.c.n + 1), {"key": "a"}),
    "update the other way round": (
        update(owner).where(bindparam("key", type_=String) == owner.c.id),
        {"key": "a", "n": 1},
    ),
    "update of some": (
        update(part).where(part.c.owner_id == bindparam("key"), part.c.n.in_([1, 2])),
        {"key": "a", "n": 1},
    ),
    "delete": (delete(owner).where(mine), {"key": "a"}),
    "delete of some": (
        delete(part).where(part.c.owner_id == bindparam("key")).where(part.c.n > 1),
        {"key": "a"},
    ),
    "copy": (insert(part).from_select(columns, copy), {"key": "a"}),
}

UNSCOPED: dict[str, tuple[Statement, dict[str, Any]]] = {
    "of all rows": (update(owner).values(n=0), {}),
    "of another column": (
        update(owner).where(owner.c.n == bindparam("key")),
        {"key": 1, "id": "a"},
    ),
    "of several": (update(owner).where(or_(mine, owner.c.n == 1)), {"key": "a", "n": 1}),
    "of any but one": (delete(owner).where(owner.c.id != bindparam("key")), {"key": "a"}),
    "that changes the key": (update(owner).where(mine), {"key": "a", "id": "b"}),
    "that changes the key by itself": (update(owner).where(mine).values(id="b"), {"key": "a"}),
    "that changes the key by its column": (
        update(owner).where(mine).values({owner.c.id: "b"}),
        {"key": "a"},
    ),
    "with values in an order": (update(owner).where(mine).ordered_values(("n", 1)), {"key": "a"}),
    "by a subquery": (
        update(owner).where(mine).values(n=select(func.max(other.c.n)).scalar_subquery()),
        {"key": "a"},
    ),
    "where something exists": (
        delete(owner).where(mine, exists().where(other.c.n == 1)),
        {"key": "a"},
    ),
    "by another table": (update(owner).where(mine, other.c.n == 1), {"key": "a", "n": 1}),
    "by a function": (update(owner).where(mine).values(n=func.random()), {"key": "a"}),
    "by a text": (update(owner).where(mine, text("n > 1")), {"key": "a", "n": 1}),
    "by words": (update(owner).where(mine).values(n=literal_column("n + 1")), {"key": "a"}),
    "that returns": (delete(owner).where(mine).returning(owner.c.n), {"key": "a"}),
    "with a prefix": (insert(owner).prefix_with("OR REPLACE"), {"id": "a"}),
    "of several rows": (insert(owner).values([{"id": "a"}, {"id": "b"}]), {"id": "a"}),
    "upsert in SQLite": (sqlite.insert(owner).on_conflict_do_nothing(), {"id": "a"}),
    "upsert in PostgreSQL": (postgresql.insert(owner).on_conflict_do_nothing(), {"id": "a"}),
    "insert without a key": (insert(owner), {"n": 1}),
    "key of another type": (insert(owner), {"id": 1}),
    "no key": (insert(owner), {"id": None}),
    "parameter of another type": (
        delete(owner).where(owner.c.id == bindparam("key", type_=Lowered())),
        {"key": "a"},
    ),
    "parameter of no type": (delete(owner).where(bindparam("key") == owner.c.id), {"key": "a"}),
    "copy of all rows": (insert(part).from_select(columns, select(owner.c.id, owner.c.n)), {}),
    "copy under another key": (
        insert(part).from_select(columns, select(bindparam("new", type_=String), owner.c.n)),
        {"new": "a"},
    ),
    "copy of a key that was changed": (
        insert(part).from_select(columns, select(owner.c.id + "b", owner.c.n).where(mine)),
        {"key": "a"},
    ),
    "copy from elsewhere": (
        insert(part).from_select(
            columns, select(other.c.id, other.c.n).where(other.c.id == bindparam("key"))
        ),
        {"key": "a"},
    ),
    "copy of several tables": (
        insert(part).from_select(columns, select(owner.c.id, other.c.n).where(mine)),
        {"key": "a"},
    ),
    "copy of one": (insert(part).from_select(columns, copy.limit(1)), {"key": "a"}),
    "copy that returns": (
        insert(part).from_select(columns, copy).returning(part.c.n),
        {"key": "a"},
    ),
    "copy without the key": (
        insert(other).from_select(["n"], select(owner.c.n).where(mine)),
        {"key": "a"},
    ),
}

SHARED: dict[str, Table] = {
    "unique otherwise": table("unique_otherwise", UniqueConstraint("n")),
    "unique by an index": table("unique_by_index", Index(None, "n", unique=True)),
    "unique in other letters": table(
        "unique_letters", Index(None, func.lower(text("id")), unique=True)
    ),
    "refers otherwise": table("refers", Column("owner", ForeignKey("owner.id"))),
    "refers to itself": table("tree", Column("parent", ForeignKey("tree.id"))),
    "refers in a circle": table(
        "circle", key=Column("id", String(20), ForeignKey("circle.id"), primary_key=True)
    ),
    "cascades": table("cascading"),
    "excludes others": table("excluding", postgresql.ExcludeConstraint(("n", "="))),
    "refers to two": Table(
        "two",
        metadata,
        Column("id", String(20), primary_key=True),
        ForeignKeyConstraint(["id"], ["owner.id"]),
        ForeignKeyConstraint(["id"], ["other.id"]),
    ),
    # The others know nothing of it.
    "refers to what is not there": table("lonely", Column("to", ForeignKey("nowhere.id"))),
    "refers to a number": child("mistyped", of="numbered.id"),
    "any letters": table("any", key=Column("id", String(20, collation="NOCASE"), primary_key=True)),
    "one database's letters": table(
        "some", key=Column("id", String().with_variant(CHAR(9), "postgresql"), primary_key=True)
    ),
    "padded": table("padded", key=Column("id", CHAR(20), primary_key=True)),
    "converted": table("converted", key=Column("id", Lowered(20), primary_key=True)),
    "of one database only": table("inet", key=Column("id", postgresql.INET(), primary_key=True)),
    "numbered by a sequence": table("sequence", Column("of", Integer, Sequence("numbers"))),
    "numbered by itself": table("identity", Column("of", Integer, Identity())),
    "numbered in part": table(
        "numbered_in_part", Column("line", Integer, primary_key=True, autoincrement=True)
    ),
    "set by a trigger": table("trigger", Column("at", Integer, server_onupdate=FetchedValue())),
    "counted by a function": table("counted", Column("at", Integer, default=lambda: 1)),
    "set by a function": table("set", Column("at", Integer, onupdate=lambda: 1)),
    "set by the server": table("server", Column("at", Integer, server_default=func.random())),
    "without a key": Table("keyless", metadata, Column("id", String(20))),
}
table("numbered", key=Column("id", BigInteger, primary_key=True, autoincrement=False))
child("cascaded", of="cascading.id").append_constraint(
    ForeignKeyConstraint(["owner_id"], ["cascading.id"], ondelete="CASCADE")
)


@pytest.mark.parametrize("what", SCOPED)
def test_what_touches_one_key_has_its_scope(what: str) -> None:
    statement, values = SCOPED[what]
    assert scope_of(BoundStatement(statement, values)) == (owner.c.id, "a")
    changed = {name: "b" if value == "a" else value for name, value in values.items()}
    assert scope_of(BoundStatement(statement, changed)) == (owner.c.id, "b")


@pytest.mark.parametrize("what", UNSCOPED)
def test_what_may_touch_others_has_none(what: str) -> None:
    assert scope_of(BoundStatement(*UNSCOPED[what])) is None


@pytest.mark.parametrize("what", SHARED)
def test_dependent_rows_have_no_scope(what: str) -> None:
    assert scope_of(BoundStatement(insert(SHARED[what]), {"id": "a", "owner_id": "a"})) is None


@pytest.mark.parametrize(
    ("default", "constant"),
    [("0", True), (false(), True), (text("nextval('numbers')"), False), (func.now(), False)],
    ids=["word", "boolean", "text", "function"],
)
def test_defaults_are_to_be_the_same_at_any_time(default: Any, constant: bool) -> None:
    own = Table(
        "own",
        MetaData(),
        Column("id", String(20), primary_key=True),
        Column("n", Integer, server_default=default),
    )
    has_scope = scope_of(BoundStatement(insert(own), {"id": "a"})) is not None
    assert has_scope == constant


def test_what_postgresql_cannot_distinguish_is_one_scope() -> None:
    first, second = (BoundStatement(insert(owner), {"id": key}) for key in ("\0", "\ufffd"))
    assert scope_of(first) == scope_of(second)


def test_numbers_are_keys_too() -> None:
    numbered = metadata.tables["numbered"]
    assert scope_of(BoundStatement(insert(numbered), {"id": 7})) == (numbered.c.id, 7)
    assert scope_of(BoundStatement(insert(numbered), {"id": True})) is None


def test_every_change_of_the_nix_domain_and_of_the_audit_index_has_a_scope(
    nix_log: MemoryLog,
) -> None:
    add_history(nix_log, aggregates=1)
    for projection in (*nix_projections(), audit):
        for recorded in nix_log.events:
            for change in projection.statements(recorded):
                assert isinstance(change, BoundStatement)
                assert scope_of(change) is not None, change.statement
