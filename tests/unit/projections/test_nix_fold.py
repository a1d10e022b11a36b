"""The tables equal an independent fold of the log, with any pages and restarts."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select

from eventstore import nix
from eventstore.decider.decider import CommandContext
from eventstore.errors import Rejected
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Command
from eventstore.nix import (
    ActivateConfiguration,
    AddFlakeInput,
    BuildPackage,
    CachePackage,
    ConfigurationActivated,
    ConfigurationCreated,
    ConfigurationRolledBack,
    ConfigurationUpdated,
    CreateConfiguration,
    CreateFlake,
    CreateModule,
    CreateOverlay,
    DeleteModule,
    DeleteOverlay,
    FlakeCreated,
    FlakeInputAdded,
    FlakeInputRemoved,
    FlakeUpdated,
    MarkPackageStale,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    OverlayCreated,
    OverlayDeleted,
    OverlayUpdated,
    PackageBuilt,
    PackageCached,
    PackageMarkedStale,
    RemoveFlakeInput,
    RollbackConfiguration,
    UpdateConfiguration,
    UpdateFlake,
    UpdateModule,
    UpdateOverlay,
)
from eventstore.projections.database.database import Database
from eventstore.projections.table_names import library_metadata
from eventstore.projections.worker.worker import ProjectionWorker
from projections import nix_projections
from projections.models import metadata
from tests.fault import LONG
from tests.postgresql_server import Administrator
from tests.unit.projections.memory import ROOT, START, MemoryLog

DOMAIN = nix.domain()
Row = dict[str, Any]
Tables = dict[str, dict[tuple[Any, ...], Row]]

names = st.sampled_from(["a", "b", "c"])
texts = st.sampled_from(["x", "y"])
some_names = st.lists(names, max_size=3)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(CreateFlake, path=texts, description=texts, template=st.none() | texts),
    st.builds(UpdateFlake, inputs=st.none() | some_names),
    st.builds(AddFlakeInput, name=names, url=texts),
    st.builds(RemoveFlakeInput, name=names),
    st.builds(BuildPackage, flake_ref=texts, attribute=texts, output_path=st.none() | texts),
    st.builds(CachePackage, cache_url=texts),
    st.builds(MarkPackageStale, reason=texts, build=st.none() | st.integers(1, 3)),
    st.builds(CreateModule, name=names, content=texts),
    st.builds(UpdateModule, content=texts),
    st.just(DeleteModule()),
    st.builds(CreateOverlay, name=names, content=texts),
    st.builds(UpdateOverlay, content=texts),
    st.just(DeleteOverlay()),
    st.builds(CreateConfiguration, name=names, modules=some_names, overlays=some_names),
    st.builds(UpdateConfiguration, modules=some_names, overlays=st.none() | some_names),
    st.builds(ActivateConfiguration, activation=st.sampled_from(["switch", "boot", "test"])),
    st.builds(RollbackConfiguration, generation=st.none() | st.integers(1, 4)),
)
beginnings: list[tuple[str, Command]] = [
    (aggregate_id, command)
    for aggregate_id in ("1", "2")
    for command in (
        CreateFlake(path="x", description="x"),
        AddFlakeInput(name="a", url="x"),
        AddFlakeInput(name="b", url="y"),
        BuildPackage(flake_ref="x", attribute="x"),
        CreateModule(name="a", content="x"),
        CreateOverlay(name="a", content="x"),
        CreateConfiguration(name="a", modules=["a"], overlays=[]),
    )
]
requests = st.lists(st.tuples(st.sampled_from(["1", "2"]), commands), min_size=10, max_size=100)
runs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=1, max_size=5)


def history(commands: list[tuple[str, Command]]) -> MemoryLog:
    """The log that the deciders make of commands; rejected ones are not in it."""
    log = MemoryLog(DOMAIN.codec)
    states: dict[tuple[str, str], Any] = {}
    for aggregate_id, command in commands:
        decider = DOMAIN.decider(command.__aggregate__)
        key = (decider.aggregate, aggregate_id)
        state = states.setdefault(key, decider.initial())
        context = CommandContext(
            command_id=ROOT, correlation_id=ROOT, aggregate_id=aggregate_id, time=START
        )
        try:
            events = decider.decide(state, command, context)
        except Rejected:
            continue
        log.add(aggregate_id, *events)
        states[key] = decider.fold(events, state)
    return log


def fold(events: list[RecordedEvent]) -> Tables:
    """The expected tables, computed in dictionaries."""
    tables: Tables = {name: {} for name in metadata.tables}
    for recorded in events:
        _follow(tables, recorded)
    return tables


def _follow(tables: Tables, recorded: RecordedEvent) -> None:
    id_, time = recorded.aggregate_id, recorded.time
    last = {"version": recorded.version, "position": recorded.position}
    table = tables["configuration" if recorded.aggregate == "config" else recorded.aggregate]
    if recorded.version == 1:
        table[id_,] = {"id": id_, "created_at": time}
    table[id_,].update(updated_at=time, **last)
    _FOLLOW[recorded.aggregate](tables, table[id_,], recorded, last)


def _follow_flake(tables: Tables, row: Row, recorded: RecordedEvent, last: Row) -> None:
    id_, time = recorded.aggregate_id, recorded.time
    match recorded.data:
        case FlakeCreated(path=path, description=description, template=template):
            row.update(path=path, description=description, template=template)
            tables["input_user"][id_,] = {"flake_id": id_, "path": path}
        case FlakeUpdated(inputs=inputs):
            for name in inputs:
                tables["flake_input"][id_, name].update(updated_at=time, **last)
        case FlakeInputAdded(name=name, url=url):
            times = {"created_at": time, "updated_at": time}
            added = {"flake_id": id_, "name": name, "url": url, **times, **last}
            tables["flake_input"][id_, name] = added
            use = {key: value for key, value in added.items() if key != "updated_at"}
            tables["input_use"][id_, name] = {**use, "path": row["path"]}
        case FlakeInputRemoved(name=name):
            del tables["flake_input"][id_, name]
            del tables["input_use"][id_, name]


def _follow_package(tables: Tables, row: Row, recorded: RecordedEvent, last: Row) -> None:
    id_, time = recorded.aggregate_id, recorded.time
    match recorded.data:
        case PackageBuilt() as event:
            row.update(
                flake_ref=event.flake_ref,
                flake=event.flake,
                attribute=event.attribute,
                output_path=event.output_path,
                build_time_ms=event.build_time_ms,
                builds=row.get("builds", 0) + 1,
                built_at=time,
                stale=False,
                stale_reason=None,
                cache_url=None,
                cached_at=None,
            )
        case PackageCached(cache_url=url, output_path=path):
            row.update(cache_url=url, cached_at=time)
            cached = {"package_id": id_, "cache_url": url, "output_path": path, "cached_at": time}
            tables["package_cache"][id_, url] = {**cached, **last}
        case PackageMarkedStale(reason=reason):
            row.update(stale=True, stale_reason=reason)


def _follow_source(_tables: Tables, row: Row, recorded: RecordedEvent, _last: Row) -> None:
    match recorded.data:
        case ModuleCreated(name=name, content=content) | OverlayCreated(name=name, content=content):
            row.update(name=name, content=content, deleted=False)
        case ModuleUpdated(content=content) | OverlayUpdated(content=content):
            row.update(content=content)
        case ModuleDeleted() | OverlayDeleted():
            row.update(content="", deleted=True)


def _follow_configuration(tables: Tables, row: Row, recorded: RecordedEvent, last: Row) -> None:
    id_, time = recorded.aggregate_id, recorded.time
    change: Row = {"generation": None, "from_generation": None, "activation": None}
    match recorded.data:
        case ConfigurationCreated(name=name, modules=modules, overlays=overlays):
            row.update(name=name, modules=modules, overlays=overlays)
            row.update(current_generation=0, last_generation=0, activated_at=None)
        case ConfigurationUpdated(modules=modules, overlays=overlays):
            row.update(modules=modules, overlays=overlays)
        case ConfigurationActivated(generation=number, activation=activation):
            row.update(current_generation=number, last_generation=number, activated_at=time)
            tables["configuration_generation"][id_, number] = {
                "configuration_id": id_,
                "generation": number,
                "activation": activation,
                "modules": row["modules"],
                "overlays": row["overlays"],
                "activated_at": time,
                **last,
            }
            change.update(generation=number, activation=activation)
        case ConfigurationRolledBack(from_generation=old, to_generation=number):
            row.update(current_generation=number, activated_at=time)
            change.update(generation=number, from_generation=old)
    tables["configuration_change"][id_, recorded.version] = {
        "configuration_id": id_,
        "change": recorded.type,
        "event_id": recorded.id,
        "actor": None,
        "changed_at": time,
        **last,
        **change,
    }


_FOLLOW = {
    "flake": _follow_flake,
    "package": _follow_package,
    "module": _follow_source,
    "overlay": _follow_source,
    "config": _follow_configuration,
}


async def found(database: Database) -> Tables:
    def read(connection: Connection) -> Tables:
        return {
            name: {
                tuple(row._mapping[column] for column in table.primary_key.columns): dict(
                    row._mapping
                )
                for row in connection.execute(select(table)).all()
            }
            for name, table in metadata.tables.items()
        }

    async with database.engine.connect() as connection:
        return await connection.run_sync(read)


def visible(log: MemoryLog, end: int) -> MemoryLog:
    """The log when it ended at a position."""
    earlier = MemoryLog(DOMAIN.codec)
    earlier.events = log.events[:end]
    return earlier


async def follow(location: str, log: MemoryLog, batch: int, pages: int) -> int:
    """Run a worker for some pages, or until it has caught up; its position."""
    async with Database(location) as database:

        def page_done(_position: int, pending: int) -> None:
            nonlocal pages
            pages -= 1
            if pages == 0 or pending == 0:
                worker.stop()

        worker = ProjectionWorker(
            log,  # type: ignore[arg-type]
            database,
            nix_projections(),
            batch=batch,
            on_progress=page_done,
        )
        await worker.run()
        assert await found(database) == fold(log.events[: worker.position])
        return worker.position


async def follow_in_pieces(location: str, log: MemoryLog, pieces: list[tuple[int, int]]) -> None:
    end = 0
    for step, batch in pieces:
        end = min(end + step, log.end)
        await follow(location, visible(log, end), batch, pages=2)
    assert await follow(location, log, batch=7, pages=1_000) == log.end


@pytest.fixture(scope="module")
def directory(migrated: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        shutil.copyfile(migrated, Path(directory) / "template")
        yield Path(directory)


@pytest.fixture(scope="module")
def emptied(databases: Administrator, migrated_postgresql: str) -> str:
    """One database for all examples, for making a new one takes longer than an example."""
    return databases.create(migrated_postgresql)


async def empty(location: str) -> None:
    def delete_all(connection: Connection) -> None:
        for table in (*reversed(metadata.sorted_tables), *library_metadata.sorted_tables):
            connection.execute(delete(table))

    async with Database(location) as database:
        await database.transact(delete_all)


@pytest.mark.timeout(300)  # to shrink a failing example takes its time
@settings(max_examples=400 if LONG else 20, deadline=None)
@given(before=st.permutations(beginnings), commands=requests, pieces=runs)
def test_the_read_models_are_the_fold_of_the_log(
    directory: Path,
    before: list[tuple[str, Command]],
    commands: list[tuple[str, Command]],
    pieces: list[tuple[int, int]],
) -> None:
    with tempfile.TemporaryDirectory(dir=directory) as own:
        path = Path(own) / "read_model.sqlite"
        shutil.copyfile(directory / "template", path)
        asyncio.run(follow_in_pieces(str(path), history(before + commands), pieces))


@pytest.mark.timeout(300)
@settings(max_examples=50 if LONG else 4, deadline=None)
@given(before=st.permutations(beginnings), commands=requests, pieces=runs)
def test_the_read_models_are_the_fold_of_the_log_in_postgresql(
    emptied: str,
    before: list[tuple[str, Command]],
    commands: list[tuple[str, Command]],
    pieces: list[tuple[int, int]],
) -> None:
    asyncio.run(empty(emptied))
    asyncio.run(follow_in_pieces(emptied, history(before + commands), pieces))
