"""Lists in pages: together they are the list, with any limit, whatever is added meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, delete, event

from eventstore.errors import InvalidPayload
from eventstore.messages.queries import ListQuery
from eventstore.nix import (
    FlakeView,
    GetConfigurationHistory,
    GetFlakeInputs,
    ListConfigurations,
    ListFlakes,
    ListInputs,
    ListModules,
    ListOverlays,
    ListPackages,
)
from eventstore.projections.database.database import Database
from projections.models import configuration, flake
from tests.unit.projections.reading import ask, nix_answers, parts, put, put_flakes

LATER = {"0aa", "aab", "abb", "zzz"}

paths = st.lists(st.sampled_from(["a", "aa", "ab", "b", "B", "é", "%", "_", "a/b"]), max_size=30)


@pytest.fixture(scope="module")
def template(migrated: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        shutil.copyfile(migrated, Path(directory) / "template")
        yield Path(directory) / "template"


async def pages_of(
    template: Path, found: list[str], limit: int, prefix: str | None, added: list[str]
) -> tuple[list[list[FlakeView]], list[FlakeView]]:
    """The list in pages, with something added after each of them, and as one at first."""
    rows = [(path, f"id{number}") for number, path in enumerate(found)]
    async with Database(template) as database:
        await database.transact(lambda connection: connection.execute(delete(flake)))
        await put_flakes(database, rows)
        answers = nix_answers(database)
        query = ListFlakes(path_prefix=prefix, limit=limit)
        whole = (await ask(answers, msgspec.structs.replace(query, limit=1_000))).data.items
        got = []
        for number in range(1_000):
            part = (await ask(answers, query)).data
            got.append(part.items)
            if part.next is None:
                break
            if added:
                path = added[number % len(added)]
                await put_flakes(database, [(path, f"new{number}")])
            query = msgspec.structs.replace(query, after=part.next)
        return got, whole


@settings(max_examples=25, deadline=None)
@given(
    found=paths,
    limit=st.integers(1, 12),
    prefix=st.sampled_from([None, "a", "%", ""]),
    added=st.just([]) | st.lists(st.sampled_from(sorted(LATER)), max_size=3),
)
def test_all_parts_together_are_the_list_also_while_it_grows(
    template: Path, found: list[str], limit: int, prefix: str | None, added: list[str]
) -> None:
    got, whole = asyncio.run(pages_of(template, found, limit, prefix, added))

    items = [item for part in got for item in part]
    assert [item for item in items if not item.id.startswith("new")] == whole
    assert len({item.id for item in items}) == len(items)
    assert [(item.path, item.id) for item in items] == sorted((i.path, i.id) for i in items)
    wanted = [path for path in found if path.startswith(prefix or "")]
    assert sorted(item.path for item in whole) == sorted(wanted)
    assert all(len(part) == limit for part in got[:-1])


async def test_a_cursor_behind_all_items_is_never_given(database: Database) -> None:
    await put_flakes(database, [("a", "1"), ("a", "2")])
    assert [len(part) for part in await parts(nix_answers(database), ListFlakes(limit=2))] == [2]


LISTS: Mapping[str, tuple[ListQuery[Any], list[str]]] = {
    "flakes": (ListFlakes(), ["SCAN flake USING INDEX ix_flake_path_id"]),
    "flakes-path": (ListFlakes(path="b"), ["SEARCH flake USING INDEX ix_flake_path_id (path=?)"]),
    "flakes-prefix": (
        ListFlakes(path_prefix="b"),
        ["SEARCH flake USING INDEX ix_flake_path_id (path>? AND path<?)"],
    ),
    "flakes-input": (
        ListFlakes(input_name="x", input_url="y"),
        [
            "SCAN flake USING INDEX ix_flake_path_id",
            "SEARCH flake_input USING INDEX sqlite_autoindex_flake_input_1 (flake_id=? AND name=?)",
        ],
    ),
    "inputs": (
        GetFlakeInputs(id="1"),
        ["SEARCH flake_input USING INDEX sqlite_autoindex_flake_input_1 (flake_id=?)"],
    ),
    "uses": (ListInputs(), ["SCAN input_use USING INDEX ix_input_use_name_url_flake_id"]),
    "uses-name": (
        ListInputs(name="nixpkgs"),
        ["SEARCH input_use USING INDEX ix_input_use_name_url_flake_id (name=?)"],
    ),
    "packages": (
        ListPackages(cached=True),
        ["SCAN package USING INDEX ix_package_flake_ref_attribute_id"],
    ),
    "packages-flake": (
        ListPackages(flake_ref="."),
        ["SEARCH package USING INDEX ix_package_flake_ref_attribute_id (flake_ref=?)"],
    ),
    "packages-attribute": (
        ListPackages(attribute="x"),
        ["SCAN package USING INDEX ix_package_flake_ref_attribute_id"],
    ),
    "packages-both": (
        ListPackages(flake_ref=".", attribute="x"),
        [
            "SEARCH package USING INDEX ix_package_flake_ref_attribute_id "
            "(flake_ref=? AND attribute>? AND attribute<?)"
        ],
    ),
    "modules": (ListModules(), ["SCAN module USING INDEX ix_module_name_id"]),
    "modules-prefix": (
        ListModules(name_prefix="b", deleted=None),
        ["SEARCH module USING INDEX ix_module_name_id (name>? AND name<?)"],
    ),
    "overlays": (
        ListOverlays(name="b"),
        ["SEARCH overlay USING INDEX ix_overlay_name_id (name=?)"],
    ),
    "configurations": (
        ListConfigurations(module="m", activated=True),
        ["SCAN configuration USING INDEX ix_configuration_name_id"],
    ),
    "history": (
        GetConfigurationHistory(id="1"),
        ["SEARCH configuration_change USING INDEX sqlite_autoindex_configuration_change_1"],
    ),
}


async def plan(database: Database, query: ListQuery[Any]) -> list[str]:
    """SQLite's plan of the last statement of a query."""
    statements: list[tuple[str, Any]] = []

    def executed(_c: Any, _cursor: Any, sql: str, values: Any, _x: Any, _many: Any) -> None:
        statements.append((sql, values))

    event.listen(Engine, "before_cursor_execute", executed)
    try:
        await ask(nix_answers(database), query)
    finally:
        event.remove(Engine, "before_cursor_execute", executed)
    sql, values = statements[-1]

    def explain(connection: Connection) -> list[str]:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
        return [row.detail for row in rows]

    async with database.engine.connect() as connection:
        return await connection.run_sync(explain)


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_follows_its_index_and_is_not_sorted(
    sqlite_database: Database, name: str
) -> None:
    query, steps = LISTS[name]
    await put_flakes(sqlite_database, [("b", "1")])
    row = {"name": "b", "modules": [], "overlays": [], "current_generation": 0}
    await put(sqlite_database, configuration, [{"id": "1", **row, "last_generation": 0}])

    details = await plan(sqlite_database, query)

    for step in steps:
        assert any(step in detail for detail in details), details
    assert [detail for detail in details if "TEMP B-TREE" in detail] == []


@pytest.mark.parametrize("prefix", [None, "b"])
async def test_a_page_begins_after_the_previous_one(
    sqlite_database: Database, prefix: str | None
) -> None:
    await put_flakes(sqlite_database, [(f"b{number:03}", str(number)) for number in range(9)])
    first = (await ask(nix_answers(sqlite_database), ListFlakes(path_prefix=prefix, limit=3))).data

    details = await plan(sqlite_database, ListFlakes(path_prefix=prefix, limit=3, after=first.next))

    (step,) = details
    expected = "(path>? AND path<?)" if prefix else "((path,id)>(?,?))"
    assert step == f"SEARCH flake USING INDEX ix_flake_path_id {expected}"


@pytest.mark.parametrize("other", [ListFlakes(path="a"), ListFlakes(path_prefix="a")])
async def test_a_cursor_is_not_taken_with_other_filters(
    database: Database, other: ListFlakes
) -> None:
    await put_flakes(database, [("a", "1"), ("a", "2")])
    answers = nix_answers(database)
    cursor = (await ask(answers, ListFlakes(limit=1))).data.next
    with pytest.raises(InvalidPayload, match="with these filters"):
        await ask(answers, msgspec.structs.replace(other, after=cursor))
