"""Filters of lists, on a real database, and as SQL for another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import ColumnElement, Engine, create_engine, delete, insert, select
from sqlalchemy.dialects import postgresql

from eventstore.projections.queries.filters import begins, equals, has_element
from eventstore.projections.queries.filters import given as given_or_not
from projections.models import configuration, flake
from tests.unit.projections.reading import KNOWN

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=5)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        flake.create(connection)
        configuration.create(connection)
    yield engine
    engine.dispose()


def paths_where(engine: Engine, condition: ColumnElement[bool], paths: Sequence[str]) -> list[str]:
    with engine.begin() as connection:
        connection.execute(delete(flake))
        rows = [
            {"id": str(number), "path": path, "description": "", **KNOWN}
            for number, path in enumerate(paths)
        ]
        connection.execute(insert(flake), rows)
        return sorted(connection.scalars(select(flake.c.path).where(condition)))


@settings(max_examples=50, deadline=None)
@given(prefix=texts, others=st.lists(texts, min_size=1))
@example(prefix="a%", others=["a%b", "ab"])
@example(prefix="a_", others=["a_", "ab"])
@example(prefix="A", others=["a", "A", "B"])
@example(prefix="\ud7ff", others=["\ud7ffx", "\ue000"])
@example(prefix="\U0010ffff", others=["\U0010ffff\U0010ffff", "x"])
@example(prefix="a\U0010ffff", others=["a\U0010ffff!", "b"])
def test_a_prefix_is_that_and_nothing_else(engine: Engine, prefix: str, others: list[str]) -> None:
    paths = [*others, *(prefix + other for other in others)]
    wanted = sorted(path for path in paths if path.startswith(prefix))
    assert paths_where(engine, begins(flake.c.path, prefix), paths) == wanted


def test_a_filter_without_a_value_excludes_nothing() -> None:
    for condition in (
        equals(flake.c.path, None),
        begins(flake.c.path, None),
        begins(flake.c.path, ""),
        given_or_not(flake.c.template, None),
        has_element(configuration.c.modules, None),
    ):
        assert str(condition) == "true"


@pytest.mark.parametrize(("wanted", "found"), [("web", ["1", "2"]), ("we", []), ("%", [])])
def test_an_element_of_a_list_is_found_whole(engine: Engine, wanted: str, found: list[str]) -> None:
    rows = [
        {"id": "1", "name": "", "modules": ["web"], "overlays": []},
        {"id": "2", "name": "", "modules": ["ssh", "web"], "overlays": []},
        {"id": "3", "name": "", "modules": [], "overlays": ["web"]},
    ]
    given_rows = [{**row, **KNOWN, "current_generation": 0, "last_generation": 0} for row in rows]
    with engine.begin() as connection:
        connection.execute(delete(configuration))
        connection.execute(insert(configuration), given_rows)
        has = has_element(configuration.c.modules, wanted)
        assert connection.scalars(select(configuration.c.id).where(has)).all() == found


def test_postgresql_has_its_own_sql_for_the_same() -> None:
    wanted = select(configuration.c.id).where(
        begins(configuration.c.name, "a%"), has_element(configuration.c.modules, "web")
    )
    compiled = wanted.compile(dialect=postgresql.dialect())  # type: ignore[no-untyped-call]
    sql = " ".join(str(compiled).split())
    assert sorted(compiled.params.values()) == ["a%", "web"]
    # Its order of texts may be a language's, in which a prefix is no range.
    assert "starts_with(configuration.name, " in sql
    assert "FROM json_array_elements_text(configuration.modules) AS" in sql
    assert ".value = " in sql


def test_sqlite_knows_what_is_used_here() -> None:
    assert sqlite3.sqlite_version_info >= (3, 15)  # comparing rows; JSON is older
