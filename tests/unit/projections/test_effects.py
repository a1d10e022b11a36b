"""Which changes of one scope commute: neither writes what the other reads or writes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from eventstore.projections.projection import Statement
from eventstore.projections.worker.effects import effects_of

metadata = MetaData()


def table(name: str, *rest: Any) -> Table:
    key = Column("id", String(20), primary_key=True)
    return Table(name, metadata, key, Column("n", Integer), Column("m", Integer), *rest)


owner = table("owner")
part = Table(
    "part",
    metadata,
    Column("owner_id", String(20), ForeignKey(owner.c.id), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("n", BigInteger),
)
detail = Table(
    "detail",
    metadata,
    Column("owner_id", String(20), primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    ForeignKeyConstraint(["owner_id", "line"], [part.c.owner_id, part.c.line]),
)
checked = table("checked", CheckConstraint("n < m"))
unique = table("unique", UniqueConstraint("id", "n", "m"))
indexed = table("indexed", Index(None, func.abs(Column("n", Integer))))
renewed = table("renewed", Column("renewal", Integer, onupdate=7))


def changing(of: Table, *names: str, **values: Any) -> tuple[Statement, tuple[str, ...]]:
    """An update of these columns, and of others by expressions."""
    (key, *_) = of.primary_key.columns
    statement = update(of).where(key == bindparam("key"))
    return statement.values(values) if values else statement, ("key", *names)


copied = insert(part).from_select(
    ["owner_id", "line", "n"],
    select(owner.c.id, bindparam("at", type_=Integer), owner.c.n).where(
        owner.c.id == bindparam("key")
    ),
)
Shape = tuple[Statement, tuple[str, ...]]
ADDED: Shape = (insert(part), ("owner_id", "line", "n"))
REMOVED: Shape = (delete(part).where(part.c.owner_id == bindparam("key")), ("key",))
CREATED: Shape = (insert(owner), ("id", "n"))
COPIED: Shape = (copied, ("key", "at"))

COMMUTE: dict[str, tuple[Shape, Shape]] = {
    "columns of a row": (changing(owner, "n"), changing(owner, "m")),
    "a row and its part": (changing(owner, "n"), ADDED),
    "a row and the end of its parts": (changing(owner, "n"), REMOVED),
    "a copied row and another column": (changing(owner, "m"), COPIED),
    "parts and a new detail": (changing(part, "n"), (insert(detail), ("owner_id", "line"))),
    "columns of different tables": (changing(owner, "n"), changing(part, "n")),
}

CONFLICT: dict[str, tuple[Shape, Shape]] = {
    "one column": (changing(owner, "n"), changing(owner, "n", "m")),
    "a column that is read": (changing(owner, "n"), changing(owner, m=owner.c.n)),
    "a column that selects": (
        (update(owner).where(owner.c.id == bindparam("key"), owner.c.n > 1), ("key", "m")),
        changing(owner, "n"),
    ),
    "a new row and its column": (CREATED, changing(owner, "n")),
    "a new row and its part": (CREATED, ADDED),
    "parts that are added and removed": (ADDED, REMOVED),
    "a column and its copy": (changing(owner, "n"), COPIED),
    "a new row and its copy": (CREATED, COPIED),
    "a new part and its column": (ADDED, changing(part, "n")),
    "a key that others refer to": (changing(part, "line"), (insert(detail), ("owner_id", "line"))),
    "a removed row that others refer to": (REMOVED, (insert(detail), ("owner_id", "line"))),
    "columns that are checked": (changing(checked, "n"), changing(checked, "m")),
    "columns that are unique": (changing(unique, "n"), changing(unique, "m")),
    "columns of an indexed table": (changing(indexed, "n"), changing(indexed, "m")),
    "columns that change by themselves": (changing(renewed, "n"), changing(renewed, "m")),
}


@pytest.mark.parametrize("what", COMMUTE)
def test_changes_of_different_columns_and_rows_commute(what: str) -> None:
    first, second = (effects_of(*shape) for shape in COMMUTE[what])
    assert not first.conflict(second)
    assert not second.conflict(first)


@pytest.mark.parametrize("what", CONFLICT)
def test_changes_that_may_notice_each_other_conflict(what: str) -> None:
    first, second = (effects_of(*shape) for shape in CONFLICT[what])
    assert first.conflict(second)
    assert second.conflict(first)


def test_every_change_conflicts_with_itself() -> None:
    shapes = {shape for pairs in (COMMUTE, CONFLICT) for pair in pairs.values() for shape in pair}
    assert all(effects_of(*shape).conflict(effects_of(*shape)) for shape in shapes)
