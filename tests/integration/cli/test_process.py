"""`eventstore process`: processes are listed and shown, and failed ones retried."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.operations import good
from tests.integration.command_line import BOUND, CommandLine


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    folder = tmp_path_factory.mktemp("tower")
    cli = CommandLine(folder, EVENTSTORE_APP="tests.integration.tower:app")
    with cli.serving():
        yield cli


def ring(tower: CommandLine, key: str) -> None:
    good(tower.call("send", "tower.cmd.bell.ring", "--id", key, "--data", "{}"))


def listed(tower: CommandLine, key: str, **expected: Any) -> dict[str, Any]:
    """A process as it is listed, once it is as expected."""
    deadline = time.monotonic() + BOUND
    while True:
        lines = good(tower.call("process", "list", "ringing", "--json"))
        found = {each["key"]: each for each in map(json.loads, lines)}
        own: dict[str, Any] = found.get(key, {})
        if own and own | expected == own:
            return own
        assert time.monotonic() < deadline, found


def test_processes_are_listed_and_shown(tower: CommandLine) -> None:
    ring(tower, "a")
    found = listed(tower, "a", reactions=2)
    assert (found["status"], [*found["timers"]]) == ("running", ["hour"])
    table = good(tower.call("process", "list"))
    heading = "process key status started last reactions waits for"
    assert table[0].split() == heading.split()
    assert "hour at" in table[1]

    none = tower.call("process", "list", "--status", "ended")
    assert (none.status, none.err.strip()) == (0, "no process has the status ended")

    lines = good(tower.call("process", "show", "ringing", "a"))
    assert lines[0] == "ringing a: running"
    text = "\n".join(lines)
    assert (
        "Rang, bell a\n    starts\n    sends bell.rest to a\n    sets the timer hour, due" in text
    )
    (line,) = good(tower.call("process", "show", "ringing", "a", "--json"))
    assert [each["trigger"] for each in json.loads(line)["steps"]] == ["Rang", "Rested"]


def test_a_failed_process_is_named_and_retried(tower: CommandLine) -> None:
    broken = Path(tower.folder) / "broken"
    broken.touch()
    ring(tower, "b")
    failed = listed(tower, "b", status="failed")
    assert [*failed["failed"].values()] == ["Rang"]
    shown = "\n".join(good(tower.call("process", "show", "ringing", "b")))
    assert "failed at Rang, bell b\n    handler_failed: <b>the bell is broken" in shown
    refused = tower.call("process", "retry", "ringing", "b")
    assert (refused.status, refused.lines[0]) == (1, "0 reacted to, 1 left")
    broken.unlink()
    ring(tower, "c")
    listed(tower, "c", status="running", reactions=2)
    found = good(tower.call("process", "list", "--status", "failed", "--limit", "1"))
    assert [line.split()[1] for line in found[1:2]] == ["b"], "though others are later"
    assert good(tower.call("process", "retry", "ringing"))[0] == "1 reacted to, 0 left"
    assert listed(tower, "b", status="running", reactions=2)["failed"] == {}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("list singing", "there is no process singing; the application has ringing"),
        ("show ringing nobody", "process ringing has no record of nobody"),
        ("retry singing", "there is no process singing"),
    ],
)
def test_a_process_that_there_is_not_is_named(tower: CommandLine, words: str, problem: str) -> None:
    ended = tower.call("process", *words.split())
    assert ended.status == 2
    assert problem in ended.err
