"""`eventstore backup` and `restore`: the Nix domain is destroyed, and comes back."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.command_line import CommandLine

TABLES = ("flake", "flake_input", "package")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def rows(folder: Path) -> list[list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(folder / "var" / "read_model.sqlite")) as database:
        return [
            sorted(database.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608
            for table in TABLES
        ]


def test_a_destroyed_service_comes_back_from_its_backup(cli: CommandLine, tmp_path: Path) -> None:
    assert cli.call("demo").status == 0
    with cli.serving() as service:
        made = cli.call("backup", "made")
        assert made.status == 0, made.err
        assert " other messages, backed up to made in " in made.out
        refused = cli.call("restore", "made")
        assert refused.status == 2
        assert "error: the domain nix is not empty here; it has " in refused.err
        assert service.stopped(signal.SIGTERM).status == 0
    before = rows(tmp_path)
    shutil.rmtree(tmp_path / "var")

    checked = cli.call("restore", "made", "--check")
    assert checked.out.startswith("made is complete and unchanged: "), checked.err
    restored = cli.call("restore", "made", "--json")
    assert restored.status == 0, restored.err
    facts = json.loads(restored.out)
    assert (facts["findings"], facts["read_model"]) == (0, True)
    with cli.serving() as service:
        listed = [json.loads(line) for line in cli.call("projection", "list", "--json").lines]
        assert {each["lag"] for each in listed} == {0}
        assert service.stopped(signal.SIGTERM).status == 0
    assert rows(tmp_path) == before
    assert before != [[], [], []]


def test_what_is_no_backup_is_refused_in_one_line(cli: CommandLine) -> None:
    refused = cli.call("restore", "nothing")
    assert refused.status == 2
    expected = "error: nothing is no backup: backup.json cannot be read: No such file or directory"
    assert refused.err.splitlines() == [expected]
    assert cli.call("restore", "nothing", "--check").err == refused.err
    assert cli.call("backup", "made", "--without-read-model").status == 2  # there is no server
    assert not (cli.folder / "made").exists()
