"""`eventstore nix import`: lock files become commands, once."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from eventstore.nix import import_commands, samples
from tests.integration.command_line import CommandLine, without_server

SAMPLE = samples()[0]


def test_repeated_imports_send_no_further_commands(service: CommandLine) -> None:
    first = service.call("nix", "import", *samples())
    stored = service.call("events", "--json").lines
    second = service.call("nix", "import", *samples())

    assert (first.status, first.err) == (0, "")
    assert max(map(len, first.lines)) <= 80
    commands = [each for file in samples() for each in import_commands(file)]
    table = [line.split() for line in first.lines if "…" in line]
    assert [row[1] for row in table] == [type(each.command).__name__ for each in commands]
    assert {row[-1] for row in table} == {"success"}
    events = [json.loads(line) for line in stored]
    urls = {event["data"]["url"] for event in events if event["type"] == "FlakeInputAdded"}
    assert urls == {each.command.url for each in commands if hasattr(each.command, "url")}

    assert (second.status, second.err) == (0, "")
    assert len(re.findall("done before *$", second.out, re.MULTILINE)) == len(commands)
    assert service.call("events", "--json").lines == stored


def test_json_is_an_outcome_a_line(service: CommandLine) -> None:
    first = service.call("nix", "import", SAMPLE, "--name", "json", "--json")
    second = service.call("nix", "import", SAMPLE, "--name", "json", "--json")

    assert (first.status, second.status) == (0, 0)
    found = [json.loads(line) for line in first.lines]
    assert [outcome["version"] for outcome in found] == [1, 2, 3, 4]
    assert {outcome["status"] for outcome in found} == {"success"}
    assert len({outcome["aggregate_id"] for outcome in found}) == 1
    assert first.lines == second.lines
    assert "importing" in first.err, "progress is for people"


def test_a_name_is_given_to_one_file(service: CommandLine) -> None:
    ended = service.call("nix", "import", SAMPLE, "--name", "[/red]")

    assert (ended.status, ended.err) == (0, "")
    assert re.search(r"CreateFlake +\[/red\] +success *$", ended.out, re.MULTILINE)


def test_one_name_for_several_files_is_refused(service: CommandLine) -> None:
    before = service.call("events").lines
    ended = service.call("nix", "import", SAMPLE, SAMPLE, "--name", "x")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.endswith(
        "Error: Invalid value for --name: 2 files cannot have one name: leave it out\n"
    )
    assert service.call("events").lines == before


def test_an_invalid_lock_file_stops_it_before_anything_is_sent(
    service: CommandLine,
) -> None:
    (service.folder / "bad.lock").write_text("{}")
    before = service.call("events").lines
    for words in (("bad.lock",), (SAMPLE, "bad.lock", "--json"), ("missing.lock",)):
        ended = service.call("nix", "import", *words)
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert ended.err.startswith("error: lock file '")
    assert service.call("events").lines == before
    assert service.call("nix", "import", SAMPLE).status == 0, "the service goes on"


def lock_file(path: Path, **urls: str) -> Path:
    """A lock file with an input for each, at a revision that begins with these digits."""
    nodes = {
        name: {"locked": {"type": "github", "owner": "o", "repo": name, "rev": rev * 40}}
        for name, rev in urls.items()
    }
    root = {"inputs": {name: name for name in urls}}
    path.write_text(json.dumps({"version": 7, "root": "root", "nodes": {"root": root, **nodes}}))
    return path


def flake_events(service: CommandLine, flake_id: str) -> list[tuple[str, str]]:
    events = [json.loads(line) for line in service.call("events", "--json").lines]
    own = [event for event in events if event["aggregate_id"] == flake_id]
    return [(event["type"], event["data"].get("name", "")) for event in own]


def test_of_a_changed_lock_file_the_difference_is_imported(service: CommandLine) -> None:
    path = service.folder / "changing.lock"
    flake_id = import_commands(lock_file(path, a="1", b="1", c="1"))[0].aggregate_id
    assert service.call("nix", "import", path).status == 0
    before = flake_events(service, flake_id)
    changed = service.call("nix", "import", lock_file(path, a="1", b="2", d="1"))

    assert (changed.status, changed.err) == (0, "")
    assert changed.lines[-1] == "changing: 1 added, 1 removed, 1 changed, 1 unchanged"
    assert flake_events(service, flake_id)[len(before) :] == [
        ("FlakeInputRemoved", "c"),
        ("FlakeInputRemoved", "b"),
        ("FlakeInputAdded", "b"),
        ("FlakeInputAdded", "d"),
    ]
    after = flake_events(service, flake_id)
    again = service.call("nix", "import", path)
    assert again.status == 0
    assert again.lines[-1] == "changing: 0 added, 0 removed, 0 changed, 3 unchanged"
    assert flake_events(service, flake_id) == after


def test_an_input_that_is_removed_and_added_back_is_imported_each_time(
    service: CommandLine,
) -> None:
    path = service.folder / "coming.lock"
    flake_id = import_commands(lock_file(path, a="1"))[0].aggregate_id
    for _ in range(2):
        assert service.call("nix", "import", lock_file(path, a="1")).status == 0
        assert service.call("nix", "import", lock_file(path)).status == 0

    names = [kind for kind, _ in flake_events(service, flake_id)]
    assert names == ["FlakeCreated", *["FlakeInputAdded", "FlakeInputRemoved"] * 2]


def test_an_interrupted_import_can_be_repeated(service: CommandLine) -> None:
    """The first part of an import is an import of fewer inputs: the commands have the same ids."""
    path = service.folder / "broken.lock"
    assert service.call("nix", "import", lock_file(path, a="1")).status == 0
    ended = service.call("nix", "import", lock_file(path, a="1", b="1"))

    assert ended.status == 0
    assert ended.lines[-1] == "broken: 1 added, 0 removed, 0 changed, 1 unchanged"
    flake_id = import_commands(path)[0].aggregate_id
    assert flake_events(service, flake_id) == [
        *(("FlakeCreated", ""), ("FlakeInputAdded", "a"), ("FlakeInputAdded", "b")),
    ]


def test_a_flake_created_by_other_commands_is_made_equal_to_its_lock_file(
    service: CommandLine,
) -> None:
    path = lock_file(service.folder / "other.lock", a="1")
    flake_id = import_commands(path)[0].aggregate_id
    create = json.dumps({"path": "elsewhere", "description": "by hand"})
    add = json.dumps({"name": "own", "url": "path:/own"})
    for kind, data in (("create", create), ("add_input", add)):
        words = ("--id", flake_id, "--data", data)
        assert service.call("send", f"nix.cmd.flake.{kind}", *words).status == 0
    ended = service.call("nix", "import", path)

    assert (ended.status, ended.err) == (0, "")
    assert ended.lines[-1] == "other: 1 added, 1 removed, 0 changed, 0 unchanged"


def test_files_of_one_flake_are_imported_together(service: CommandLine) -> None:
    """The same file by two names."""
    for folder in ("a", "b"):
        (service.folder / folder / "same").mkdir(parents=True)
        shutil.copy(SAMPLE, service.folder / folder / "same" / "flake.lock")
    files = ("a/same/flake.lock", "b/same/flake.lock", "a/same/flake.lock")
    ended = service.call("nix", "import", *files, "--json")

    assert ended.status == 0
    assert len(ended.lines) == len(import_commands(SAMPLE))


def test_each_is_planned_on_the_current_state_and_not_on_a_lagging_read_model(
    service: CommandLine,
) -> None:
    for folder in ("one", "two"):
        (service.folder / folder / "late").mkdir(parents=True)
    one = lock_file(service.folder / "one/late/flake.lock", a="1")
    two = lock_file(service.folder / "two/late/flake.lock", a="2")
    flake_id = import_commands(one)[0].aggregate_id
    assert service.call("nix", "import", one).status == 0
    assert service.call("query", "flake", "get", flake_id).status == 0
    assert service.call("projection", "pause", "flakes").status == 0
    try:
        with service.start("nix", "import", two, one) as running:
            while len(flake_events(service, flake_id)) < 4:
                assert running.process.poll() is None
            assert service.call("projection", "resume", "flakes").status == 0
            ended = running.ended()
    finally:
        service.call("projection", "resume", "flakes")

    assert (ended.status, ended.err) == (0, "")
    assert [event for event, _ in flake_events(service, flake_id)] == [
        *("FlakeCreated", "FlakeInputAdded"),
        *("FlakeInputRemoved", "FlakeInputAdded", "FlakeInputRemoved", "FlakeInputAdded"),
    ]


def test_without_a_service_it_says_how_to_start_one(tmp_path: Path) -> None:
    ended = without_server(tmp_path).call("nix", "import", SAMPLE)

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert " serve`" in ended.err


def test_on_a_server_without_a_service_it_says_how_to_start_one(
    tmp_path: Path, nats_server: object, domain_name: str
) -> None:
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    url = nats_server.url  # type: ignore[attr-defined]
    cli = CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=url)
    ended = cli.call("nix", "import", SAMPLE, samples()[1])

    assert ended.status == 2
    assert " serve`" in ended.err
    assert "Traceback" not in ended.err
