from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import IntegrityError

from eventstore import nix
from eventstore.errors import PoisonEvent
from eventstore.nix import (
    ConfigurationActivated,
    ConfigurationCreated,
    ConfigurationRolledBack,
    ConfigurationUpdated,
    FlakeCreated,
    FlakeInputAdded,
    FlakeInputRemoved,
    FlakeUpdated,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    OverlayCreated,
    OverlayDeleted,
    OverlayUpdated,
    PackageBuilt,
    PackageCached,
    PackageMarkedStale,
)
from eventstore.projections.database.database import Database
from eventstore.projections.worker.apply import apply
from projections import models, nix_projections
from tests.unit.projections.counters import claimed
from tests.unit.projections.memory import MemoryLog, time_of

Row = dict[str, Any]


async def project(database: Database, log: MemoryLog) -> None:
    def work(connection: Connection) -> None:
        apply(connection, claimed(connection, *nix_projections()), log.events, log.end, time_of(0))

    await database.transact(work)


async def rows(database: Database, table: Table) -> list[Row]:
    """All rows, by key, without the columns that every table has."""

    def read(connection: Connection) -> list[Row]:
        found = connection.execute(select(table).order_by(*table.primary_key.columns))
        return [dict(row._mapping) for row in found]

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


def last(position: int, version: int, created: int = 1) -> Row:
    """The columns that name the last event, and the times of the first and the last."""
    return {
        "version": version,
        "position": position,
        "created_at": time_of(created),
        "updated_at": time_of(position),
    }


def test_every_event_of_the_domain_is_wanted() -> None:
    wanted = {event for projection in nix_projections() for event in projection.event_types}

    assert wanted == set(nix.domain().codec.event_types)


async def test_a_flake_and_its_inputs(database: Database, nix_log: MemoryLog) -> None:
    nix_log.add(
        "f1",
        FlakeCreated(path="/srv/f1", description="first", template="trivial"),
        FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs"),
        FlakeInputAdded(name="utils", url="github:numtide/flake-utils"),
        FlakeInputAdded(name="gone", url="path:/gone"),
        FlakeUpdated(inputs=["nixpkgs"]),
        FlakeInputRemoved(name="gone"),
    )
    nix_log.add("f2", FlakeCreated(path="/srv/f2", description=""))
    await project(database, nix_log)

    assert await rows(database, models.flake) == [
        {
            "id": "f1",
            "path": "/srv/f1",
            "description": "first",
            "template": "trivial",
            **last(6, 6),
        },
        {"id": "f2", "path": "/srv/f2", "description": "", "template": None, **last(7, 1, 7)},
    ]
    nixpkgs = {"flake_id": "f1", "name": "nixpkgs", "url": "github:NixOS/nixpkgs"}
    utils = {"flake_id": "f1", "name": "utils", "url": "github:numtide/flake-utils"}
    assert await rows(database, models.flake_input) == [
        {**nixpkgs, **last(5, 5, 2)},
        {**utils, **last(3, 3, 3)},
    ]


async def test_two_flakes_may_have_inputs_of_the_same_name(
    database: Database, nix_log: MemoryLog
) -> None:
    for flake in ("f1", "f2"):
        nix_log.add(
            flake,
            FlakeCreated(path=flake, description=""),
            FlakeInputAdded(name="nixpkgs", url=f"github:{flake}/nixpkgs"),
        )
    nix_log.add("f2", FlakeUpdated(inputs=["nixpkgs"]))
    nix_log.add("f1", FlakeInputRemoved(name="nixpkgs"))
    await project(database, nix_log)

    left = {"flake_id": "f2", "name": "nixpkgs", "url": "github:f2/nixpkgs"}
    assert await rows(database, models.flake_input) == [{**left, **last(5, 3, 4)}]


async def test_a_package_its_builds_and_its_caches(database: Database, nix_log: MemoryLog) -> None:
    nix_log.add(
        "p1",
        PackageBuilt(flake_ref="f", attribute="hello", output_path="/1", build_time_ms=7),
        PackageCached(cache_url="https://a", output_path="/1"),
        PackageCached(cache_url="https://b", output_path="/1"),
        PackageBuilt(flake_ref="f", attribute="hello", output_path="/2", flake="f1"),
        PackageCached(cache_url="https://a", output_path="/2"),
    )
    await project(database, nix_log)

    assert await rows(database, models.package) == [
        {
            "id": "p1",
            "flake_ref": "f",
            "flake": "f1",
            "attribute": "hello",
            "output_path": "/2",
            "build_time_ms": None,
            "builds": 2,
            "built_at": time_of(4),
            "stale": False,
            "stale_reason": None,
            "cache_url": "https://a",
            "cached_at": time_of(5),
            **last(5, 5),
        }
    ]
    assert [
        (row["cache_url"], row["output_path"], row["cached_at"], row["version"], row["position"])
        for row in await rows(database, models.package_cache)
    ] == [("https://a", "/2", time_of(5), 5, 5), ("https://b", "/1", time_of(3), 3, 3)]


async def test_a_package_is_stale_until_its_next_build(
    database: Database, nix_log: MemoryLog
) -> None:
    built = PackageBuilt(flake_ref="f", attribute="hello", output_path="/1")
    stale = PackageMarkedStale(reason="an input changed", inputs=["nixpkgs"])
    nix_log.add("p1", built, stale, PackageCached(cache_url="https://a", output_path="/1"))
    nix_log.add("p2", built, stale, built)
    await project(database, nix_log)

    assert [
        (row["stale"], row["stale_reason"], row["builds"], row["version"])
        for row in await rows(database, models.package)
    ] == [(True, "an input changed", 1, 3), (False, None, 2, 3)]


async def test_a_build_is_in_no_cache_yet(database: Database, nix_log: MemoryLog) -> None:
    nix_log.add(
        "p1",
        PackageBuilt(flake_ref="f", attribute="hello", output_path="/1"),
        PackageCached(cache_url="https://a", output_path="/1"),
        PackageBuilt(flake_ref="f", attribute="hello", output_path="/2"),
    )
    await project(database, nix_log)

    (package,) = await rows(database, models.package)
    assert (package["cache_url"], package["cached_at"]) == (None, None)


@pytest.mark.parametrize(
    ("table", "created", "updated", "deleted"),
    [
        (models.module, ModuleCreated, ModuleUpdated, ModuleDeleted),
        (models.overlay, OverlayCreated, OverlayUpdated, OverlayDeleted),
    ],
)
async def test_modules_and_overlays(
    database: Database,
    nix_log: MemoryLog,
    table: Table,
    created: Any,
    updated: Any,
    deleted: Any,
) -> None:
    nix_log.add("a", created(name="nginx", content="1"), updated(content="2"))
    nix_log.add("b", created(name="users", content="3"), deleted())
    await project(database, nix_log)

    assert await rows(database, table) == [
        {"id": "a", "name": "nginx", "content": "2", "deleted": False, **last(2, 2)},
        {"id": "b", "name": "users", "content": "", "deleted": True, **last(4, 2, 3)},
    ]


async def test_a_configuration_its_generations_and_its_history(
    database: Database, nix_log: MemoryLog
) -> None:
    nix_log.add("c1", ConfigurationCreated(name="web", modules=["a", "b"], overlays=[]))
    nix_log.add("c1", ConfigurationActivated(generation=1, activation="boot"), actor="ada")
    nix_log.add(
        "c1",
        ConfigurationUpdated(modules=["c"], overlays=["o"]),
        ConfigurationActivated(generation=2, activation="switch"),
        ConfigurationRolledBack(from_generation=2, to_generation=1),
    )
    await project(database, nix_log)

    assert await rows(database, models.configuration) == [
        {
            "id": "c1",
            "name": "web",
            "modules": ["c"],
            "overlays": ["o"],
            "current_generation": 1,
            "last_generation": 2,
            "activated_at": time_of(5),
            **last(5, 5),
        }
    ]
    assert [
        (row["generation"], row["activation"], row["modules"], row["overlays"], row["activated_at"])
        for row in await rows(database, models.configuration_generation)
    ] == [(1, "boot", ["a", "b"], [], time_of(2)), (2, "switch", ["c"], ["o"], time_of(4))]
    history = await rows(database, models.configuration_change)
    assert [(row["version"], row["change"], row["generation"]) for row in history] == [
        (1, "ConfigurationCreated", None),
        (2, "ConfigurationActivated", 1),
        (3, "ConfigurationUpdated", None),
        (4, "ConfigurationActivated", 2),
        (5, "ConfigurationRolledBack", 1),
    ]
    assert [row["actor"] for row in history] == [None, "ada", None, None, None]
    assert [row["event_id"] for row in history] == [event.id for event in nix_log.events]
    assert [row["changed_at"] for row in history] == [time_of(n) for n in range(1, 6)]
    assert (history[4]["from_generation"], history[3]["activation"]) == (2, "switch")


async def test_an_input_of_no_flake_is_a_poison_event(
    database: Database, nix_log: MemoryLog
) -> None:
    nix_log.add("f1", FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs"))

    with pytest.raises(PoisonEvent, match=r"(?i)foreign key") as stopped:
        await project(database, nix_log)

    assert isinstance(stopped.value.__cause__, IntegrityError)


async def test_any_text_is_stored(database: Database, nix_log: MemoryLog) -> None:
    odd = "'; DROP TABLE module; -- \u0000 \U0001f600 \n\t% :name ? \\"
    nix_log.add("m1", ModuleCreated(name=odd, content=odd))
    nix_log.add("c1", ConfigurationCreated(name=odd, modules=[odd], overlays=[odd]))
    nix_log.add("c1", ConfigurationActivated(generation=1, activation="test"))
    await project(database, nix_log)

    (module,) = await rows(database, models.module)
    (generation,) = await rows(database, models.configuration_generation)
    # PostgreSQL holds no NUL in a text.
    kept = odd if database.path else odd.replace("\0", "\ufffd")
    assert (module["name"], module["content"]) == (kept, kept)
    assert (generation["modules"], generation["overlays"]) == ([odd], [odd])
