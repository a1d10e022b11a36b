"""`eventstore projection`: status, rebuilds, pausing and parked events."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from eventstore import nix
from eventstore.application import WriteSide
from eventstore.application.read_models import projections_of
from eventstore.cli.projection.status import statuses
from eventstore.cli.session import Session
from eventstore.config import ReadModelSettings, Settings
from eventstore.nix import samples
from eventstore.projections.database.database import Database
from eventstore.server.embedded import EmbeddedServer
from projections import app as shipped
from projections import nix_migrations
from tests.integration.cli.operations import good
from tests.integration.command_line import AWAY, BOUND, CommandLine, without_server

NAMES = [each.name for each in projections_of(shipped)]


@pytest.fixture(scope="module")
def folder_of_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log and its read model, without a running service."""
    cli = CommandLine(tmp_path_factory.mktemp("service"))
    assert cli.call("demo", samples()[0]).status == 0
    return cli.folder


@pytest.fixture(scope="module")
def service(folder_of_service: Path) -> Iterator[CommandLine]:
    """The same folder with a running service; tests restore what others depend on."""
    cli = CommandLine(folder_of_service)
    with cli.serving() as running:
        yield cli
        assert running.stopped().status == 0


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[WriteSide]:
    async with WriteSide(nix.domain(settings.nats.subject_prefix or ""), settings) as app:
        yield app


def listed(cli: CommandLine, name: str = "flakes") -> dict[str, Any]:
    lines = good(cli.call("projection", "list", "--json"))
    found = {each["name"]: each for each in map(json.loads, lines)}
    assert list(found) == NAMES
    one: dict[str, Any] = found[name]
    return one


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def database(cli: CommandLine) -> sqlite3.Connection:
    found = sqlite3.connect(cli.folder / "var" / "read_model.sqlite", timeout=BOUND)
    found.isolation_level = None
    return found


def execute(cli: CommandLine, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(database(cli)) as connection:
        return connection.execute(statement, values).fetchall()


def rows(cli: CommandLine) -> list[tuple[Any, ...]]:
    return execute(cli, "SELECT * FROM flake") + execute(cli, "SELECT * FROM flake_input")


def test_all_are_listed_in_80_columns(service: CommandLine) -> None:
    until(lambda: listed(service)["state"] == "live")
    head, *lines = good(service.call("projection", "list"))

    assert head.split() == ["projection", "version", "state", "position", "lag", "rate/s", "parked"]
    assert [line.split()[:3] for line in lines] == [
        [each.name, str(each.version), "live"] for each in projections_of(shipped)
    ]
    assert max(map(len, [head, *lines])) <= 80
    found = listed(service)
    assert (found["lag"], found["error"], found["parked"]) == (0, None, 0)
    assert found["position"] == found["log_end"] > 0
    assert "process" in found["owner"]


def test_the_details_of_one_projection_are_shown(service: CommandLine) -> None:
    until(lambda: listed(service)["state"] == "live")
    shown = good(service.call("projection", "show", "flakes"))
    facts = dict(line.split(maxsplit=1) for line in shown if line.startswith("  "))

    flakes, inputs = (
        execute(service, f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608
        for table in ("flake", "flake_input")
    )
    assert shown[0] == "flakes: live"
    assert (facts["flake"], facts["flake_input"]) == ("1 row", f"{inputs} rows")
    assert (flakes, inputs > 1) == (1, True)
    assert facts["log"].endswith(" NIX_LOG")
    assert "FlakeCreated, FlakeUpdated" in facts["events"]
    found = json.loads(service.call("projection", "show", "flakes", "--json").out)
    assert found["tables"] == {"flake": flakes, "flake_input": inputs}
    assert (found["name"], found["epoch"]) == ("flakes", int(facts["epoch"]))


def test_a_rebuild_beside_a_running_service(service: CommandLine) -> None:
    before, epoch = rows(service), execute(service, "SELECT epoch FROM eventstore_projection")[0][0]

    ended = service.call("projection", "rebuild", "flakes", "packages", "flakes", "--json")
    first, second = map(json.loads, ended.lines)
    assert (first["projection"], second["projection"]) == ("flakes", "packages")
    assert first["position"] == first["events"] == listed(service)["position"]
    assert rows(service) == before
    assert execute(service, "SELECT epoch FROM eventstore_projection WHERE name = 'flakes'") == [
        (epoch + 1,)
    ]

    create = ("send", "nix.cmd.flake.create", "--data", '{"path": "./x", "description": "x"}')
    good(service.call(*create, "--id", "later"))
    until(lambda: len(execute(service, "SELECT * FROM flake WHERE id = 'later'")) == 1)
    assert listed(service)["state"] == "live"


def test_a_rebuild_shows_its_progress(service: CommandLine) -> None:
    ended = service.call("projection", "rebuild", "--all")

    assert (ended.status, ended.err) == (0, "")
    assert [line.split()[:2] for line in ended.lines] == [[f"{name}:", "done"] for name in NAMES]
    end = listed(service)["position"]
    assert all(f" {end}/{end} " in line for line in ended.lines)
    assert max(map(len, ended.lines)) <= 80


def test_an_interrupted_rebuild_keeps_the_old_rows_and_its_progress(service: CommandLine) -> None:
    before, end = rows(service), listed(service)["position"]
    with (
        closing(database(service)) as other,
        service.start("projection", "rebuild", "flakes") as rebuild,
    ):
        other.execute("BEGIN IMMEDIATE")  # so that the switch has to wait
        until(lambda: listed(service)["rebuilt_to"] == end)
        assert listed(service)["state"] == "rebuilding 100 %"
        again = service.call("projection", "rebuild", "flakes")
        assert again.status == 2
        assert "rebuild-flakes is owned by process" in again.err
        stopped = rebuild.stopped()
        other.execute("ROLLBACK")

    assert stopped.status == 130
    assert "flakes keeps its old rows; what was built is kept" in stopped.out
    assert "projection rebuild flakes` continues it" in stopped.out
    assert rows(service) == before
    assert listed(service)["rebuilt_to"] == end
    shown = "\n".join(good(service.call("projection", "show", "flakes")))
    assert f"interrupted at position {end}" in shown

    left = Path(f"{service.folder}/var/read_model.sqlite.rebuild-flakes")
    content = left.read_bytes()
    went_on = json.loads(service.call("projection", "rebuild", "flakes", "--json").out)
    assert (went_on["after"], went_on["events"]) == (end, 0)
    assert rows(service) == before
    assert not left.exists()

    left.write_bytes(content)  # as if it had been killed right after the switch
    from_scratch = json.loads(service.call("projection", "rebuild", "flakes", "--json").out)
    assert (from_scratch["after"], from_scratch["events"]) == (0, end)
    left.write_bytes(content)
    assert good(service.call("projection", "rebuild", "flakes", "--discard")) == [
        "discarded: flakes"
    ]
    assert not left.exists()
    ended = service.call("projection", "rebuild", "--all", "--discard")
    assert ended.out == "discarded: nothing was left\n"


def test_pausing_and_resuming_change_nothing_else(service: CommandLine) -> None:
    assert good(service.call("projection", "pause", "flakes", "modules")) == [
        "paused: flakes, modules"
    ]
    assert good(service.call("projection", "pause", "overlays", "flakes")) == [
        "paused: flakes, modules, overlays"
    ]
    assert listed(service)["state"] == "paused"
    assert listed(service, "packages")["state"] == "live"
    assert good(service.call("projection", "resume", "flakes", "overlays")) == ["paused: modules"]
    assert good(service.call("projection", "resume", "modules")) == ["paused: (none)"]
    assert good(service.call("config", "get", "projections.paused")) == [
        "projections.paused = (not set)"
    ]
    assert listed(service)["state"] == "live"


async def test_an_unreadable_configuration_leaves_only_the_paused_state_unknown(
    app: WriteSide, settings: Settings, tmp_path: Path
) -> None:
    model = ReadModelSettings(database=str(tmp_path / "read_model.sqlite"))
    async with Database(model.database, migrations=nix_migrations()) as made:
        await made.migrate()
    bucket = app.domain.codec.subjects.config_bucket
    await app.client.request(f"$KV.{bucket}.projections.paused", b'{"all": 1}')
    found, problem = await statuses(Session(lambda: replace(settings, read_model=model)))
    assert {each.lag for each in found} == {0}
    assert str(problem).startswith("paused or not is unknown: projections.paused cannot be")


def test_a_failed_projection_is_reported_and_resumed(service: CommandLine) -> None:
    failed = "UPDATE eventstore_projection SET error = ? WHERE name = 'flakes'"
    execute(service, failed, "projection flakes stopped before FlakeCreated: no")
    epoch = execute(service, "SELECT epoch FROM eventstore_projection WHERE name = 'flakes'")[0][0]

    lines = good(service.call("projection", "list"))
    assert lines[1].split()[:3] == ["flakes", "1", "failed"]
    assert lines[-1] == "flakes: projection flakes stopped before FlakeCreated: no"
    assert good(service.call("projection", "resume", "flakes")) == [
        "flakes had failed, and is retried",
        "paused: (none)",
    ]
    assert execute(
        service, "SELECT epoch, error FROM eventstore_projection WHERE name = 'flakes'"
    ) == [(epoch + 1, None)]


def test_a_reset_projection_is_rebuilt_by_the_service(service: CommandLine) -> None:
    before = rows(service)
    refused = service.call("projection", "reset", "flakes")
    assert (refused.status, rows(service)) == (1, before)
    assert refused.out.startswith(f"delete {len(before)} rows of flakes? [y/N]")

    output = good(service.call("projection", "reset", "flakes", "--yes"))
    assert output == [f"reset: flakes, {len(before)} rows deleted"]
    until(lambda: listed(service)["state"] == "live")
    assert rows(service) == before


def test_parked_events_are_listed_retried_and_discarded(service: CommandLine) -> None:
    before = rows(service)
    flake, position, name = execute(
        service, "SELECT flake_id, position, name FROM flake_input ORDER BY position DESC"
    )[0]
    take = "DELETE FROM flake_input WHERE flake_id = ? AND name = ?"
    park = (
        "INSERT INTO eventstore_parked_event VALUES"
        " ('flakes', ?, 'flake', ?, 'e', 'FlakeInputAdded', 'ValueError: no', 6,"
        " '2026-01-01 00:00:00.000000')"
    )
    execute(service, take, flake, name)
    execute(service, park, position, flake)

    (line,) = good(service.call("projection", "parked", "flakes"))
    assert line.split() == f"{position} FlakeInputAdded flake {flake} 6x ValueError: no".split()
    assert line in "\n".join(good(service.call("projection", "show", "flakes")))
    assert listed(service)["parked"] == 1
    (found,) = good(service.call("projection", "parked", "flakes", "--json"))
    assert json.loads(found)["error"] == "ValueError: no"
    assert good(service.call("projection", "retry", "flakes", position)) == ["1 applied, 0 left"]
    assert sorted(rows(service)) == sorted(before)

    execute(service, park, position, flake)
    ended = service.call("projection", "retry", "flakes")
    assert (ended.status, ended.lines[0]) == (1, "0 applied, 1 left")
    assert "7x  IntegrityError" in ended.lines[1]
    assert good(service.call("projection", "discard", "flakes", position, "--yes")) == [
        f"discarded: {position}"
    ]
    assert service.call("projection", "discard", "flakes", position, "--yes").status == 2
    assert service.call("projection", "discard", "flakes", position).err.startswith("error: parked")
    none = service.call("projection", "parked", "flakes")
    assert none == (0, "", "nothing is parked in flakes\n")
    assert service.call("projection", "parked", "flakes", "--json").err == ""


def copied(folder_of_service: Path, folder: Path) -> CommandLine:
    """A copy of the folder while no service ran, without a server."""
    (folder / "var").mkdir()
    with (
        closing(sqlite3.connect(folder_of_service / "var" / "read_model.sqlite")) as original,
        closing(sqlite3.connect(folder / "var" / "read_model.sqlite")) as copy,
    ):
        original.backup(copy)
    return without_server(folder)


def test_without_a_server_the_status_comes_from_the_database(
    folder_of_service: Path, tmp_path: Path
) -> None:
    cli = copied(folder_of_service, tmp_path)
    execute(cli, "UPDATE eventstore_projection SET version = 9 WHERE name = 'modules'")
    execute(cli, "DELETE FROM eventstore_projection WHERE name = 'overlays'")

    lines = good(cli.call("projection", "list"))
    assert lines[1].split()[:3] == ["flakes", "1", "stopped"]
    assert lines[1].split()[4] == "?"
    states = dict(zip(NAMES, lines[1:], strict=False))
    assert "version changed" in states["modules"]
    assert "never used" in states["overlays"]
    assert lines[-2] == "modules: rows of version 9"
    assert lines[-1].startswith(f"lag unknown: no server answered at {AWAY}")
    assert "lag unknown" in good(cli.call("projection", "show", "modules"))[-1]
    for words in (("rebuild", "flakes"), ("pause", "flakes")):
        ended = cli.call("projection", *words)
        assert (ended.status, ended.out) == (2, "")
        assert f"no server answered at {AWAY}" in ended.err


def test_a_rebuild_needs_no_service_and_a_changed_version_is_rebuilt_by_the_service(
    tmp_path: Path,
) -> None:
    cli = CommandLine(tmp_path)
    assert cli.call("demo", samples()[0]).status == 0
    before = rows(cli)
    execute(cli, "UPDATE flake SET description = 'wrong'")

    ended = cli.call("projection", "rebuild", "flakes", "--json")
    assert ended.status == 0, ended
    assert rows(cli) == before
    assert cli.server_url is None

    execute(cli, "UPDATE eventstore_projection SET version = 9 WHERE name = 'flakes'")
    execute(cli, "UPDATE flake SET description = 'of version 9'")
    with cli.serving() as running:
        until(lambda: listed(cli)["state"] == "live")
        assert rows(cli) == before
        stopped = running.stopped()
    assert stopped.status == 0
    assert "projection flakes: rebuilt for version 1" in stopped.err


@pytest.mark.parametrize("words", ["list", "show flakes", "rebuild flakes", "reset flakes --yes"])
def test_without_a_read_model_none_is_created(
    tmp_path: Path, nats_server: EmbeddedServer, words: str
) -> None:
    cli = CommandLine(tmp_path, NATS_URL=nats_server.url)

    ended = cli.call("projection", *words.split())
    assert (ended.status, ended.out) == (2, "")
    assert "there is no read model var/read_model.sqlite; `" in ended.err
    assert cli.files() == []


def test_a_read_model_that_is_behind_is_refused(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    (tmp_path / "var").mkdir()
    execute(cli, "CREATE TABLE alembic_version (version_num TEXT)")

    ended = cli.call("projection", "list")
    assert ended.status == 2
    assert "is at revision none, this code needs" in ended.err
    assert "migrate`" in ended.err


@pytest.mark.parametrize("words", ["show", "rebuild", "pause", "resume", "reset --yes", "parked"])
def test_an_unknown_name_is_refused_with_the_known_ones(service: CommandLine, words: str) -> None:
    ended = service.call("projection", *words.split(), "flaks")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.endswith(
        f"there is no projection 'flaks'; did you mean flakes? there are {', '.join(NAMES)}\n"
    )


@pytest.mark.parametrize("words", ["", "flakes --all", "flakes --restart --discard"])
def test_contradictory_options_are_refused(service: CommandLine, words: str) -> None:
    assert service.call("projection", "rebuild", *words.split()).status == 2


def test_changes_are_printed_as_json(service: CommandLine) -> None:
    def changed(words: str) -> object:
        ended = service.call("projection", *words.split(), "--json")
        assert (ended.status, ended.err) == (0, ""), ended
        return json.loads(ended.out)

    assert changed("pause modules") == {"paused": ["modules"]}
    assert changed("resume modules") == {"paused": [], "retried": []}
    assert changed("rebuild modules --discard") == {"discarded": []}
    assert changed("retry modules") == {"projection": "modules", "retried": [], "left": []}
    assert changed("reset modules --yes") == {"reset": "modules", "rows_deleted": 0}
