"""`eventstore audit trace`, `history`, `search` and `export`."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventstore import nix
from eventstore.client.client import connect
from eventstore.commands import CommandClient, Outcome
from eventstore.config import load_settings
from eventstore.messages.envelope import Identity
from eventstore.nix import AddFlakeInput, CreateFlake, RemoveFlakeInput, samples
from tests.integration.command_line import AWAY, BOUND, CommandLine, ProcessResult, without_server


class Correlation(NamedTuple):
    """A command by anna, the commands that a process sent for it, and one that was rejected."""

    cli: CommandLine
    imported: str
    root: Outcome
    followed: Outcome
    rejected: Outcome

    @property
    def ids(self) -> list[str]:
        """All of the correlation's ids; the first is the correlation id, too."""
        own = [self.root, self.followed, self.rejected]
        return [id_ for each in own for id_ in (each.command_id, *each.event_ids)]


@pytest.fixture(scope="module")
def correlation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Correlation]:
    cli = CommandLine(tmp_path_factory.mktemp("audit"))
    with cli.serving() as running:
        imported = cli.call("nix", "import", samples()[0], "--json").lines
        correlation = Correlation(
            cli, json.loads(imported[0])["aggregate_id"], *asyncio.run(happen(str(cli.server_url)))
        )
        until_indexed(cli, correlation.ids)
        yield correlation
        assert running.stopped().status == 0


async def happen(url: str) -> list[Outcome]:
    codec = nix.domain().codec
    settings = load_settings(nats_url=url, environ={})
    async with connect(settings) as client, CommandClient(client, codec) as commands:
        for name in ("mine", "other"):
            await commands.execute(CreateFlake(path=f"./{name}", description=""), name)
        changed = await commands.execute(
            AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs/good"), "mine", actor="anna"
        )
        root = Identity(changed.command_id, changed.command_id, changed.command_id)
        event = Identity(changed.event_ids[0], root.id, root.id)
        follow = AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs/good")
        followed = await commands.execute(follow, "other", cause=event, actor="the updater")
        rejected = await commands.execute(
            RemoveFlakeInput(name="unheard"), "other", cause=event, actor="bob"
        )
    return [changed, followed, rejected]


def until_indexed(cli: CommandLine, ids: list[str]) -> None:
    deadline = time.monotonic() + BOUND
    while True:
        ended = cli.call("audit", "trace", ids[0], "--json")
        traced = {line["id"] for line in json.loads(ended.out)["lines"]} if ended.out else set()
        if set(ids) <= traced:
            return
        assert time.monotonic() < deadline, ended


def object_of(ended: ProcessResult) -> dict[str, Any]:
    assert ended.err == ""
    (line,) = ended.lines
    return dict(json.loads(line))


def test_every_id_of_a_correlation_prints_the_same_tree(correlation: Correlation) -> None:
    shown = set()
    for own in correlation.ids:
        ended = correlation.cli.call("audit", "trace", own[:8])
        assert (ended.status, ended.err) == (0, "")
        (marked,) = [line for line in ended.lines if line.startswith(">")]
        assert own[:8] in marked
        shown.add(ended.out.replace(">", " "))

    (out,) = shown
    lines = out.splitlines()
    assert lines[0] == f"correlation {correlation.root.command_id}"
    assert lines[1].startswith("3 commands (1 rejected), 2 events, from ")
    assert [re.sub(r"^ *(0|\+\S+ \w+)  ", "", line) for line in lines[3:9]] == [
        f"{correlation.ids[0][:8]}  AddFlakeInput flake mine by anna: success",
        f"{correlation.ids[1][:8]}  └─ FlakeInputAdded flake mine v2",
        f"{correlation.ids[2][:8]}     ├─ AddFlakeInput flake other by the updater: success",
        f"{correlation.ids[3][:8]}     │  └─ FlakeInputAdded flake other v2",
        f"{correlation.ids[4][:8]}     └─ RemoveFlakeInput flake other by bob: rejected"
        " (input_unknown)",
        f"{'':30}{correlation.rejected.message}",
    ]
    assert lines[-1] == "chain verified: flake mine, flake other, 4 events"


def test_a_trace_is_one_json_object(correlation: Correlation) -> None:
    found = object_of(correlation.cli.call("audit", "trace", correlation.ids[3], "--json"))

    assert (found["correlation_id"], found["asked"]) == (correlation.ids[0], correlation.ids[3])
    assert (found["events"], found["commands"], found["untold"]) == (2, 3, 0)
    assert [(line["id"], line["depth"]) for line in found["lines"]] == list(
        zip(correlation.ids, [0, 1, 2, 3, 2], strict=True)
    )
    assert found["lines"][4]["entry"]["code"] == "input_unknown"
    assert [chain["problem"] for chain in found["chains"]] == [None, None]
    assert found["position"] == found["log_end"]


def test_a_trace_is_bounded(correlation: Correlation) -> None:
    out = correlation.cli.call("audit", "trace", correlation.ids[0], "--depth", 1).out
    assert "FlakeInputAdded flake mine v2 [3 more below]" in out

    out = correlation.cli.call(
        "audit", "trace", correlation.ids[0], "--limit", 2, "--no-verify"
    ).out
    assert "3 more messages are not shown: give a higher --limit" in out
    assert "verified" not in out


def test_an_unknown_id_is_one_clear_line(correlation: Correlation) -> None:
    ended = correlation.cli.call("audit", "trace", "01234567")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "error: no id in the audit index begins with 01234567\n"


def test_a_history_shows_what_each_event_changed(correlation: Correlation) -> None:
    ended = correlation.cli.call("audit", "history", "flake", "mine")

    assert (ended.status, ended.err) == (0, "")
    assert ended.lines[0] == "flake mine, version 2"
    assert re.fullmatch(
        r"v1  [-0-9]+ [:.0-9]+  FlakeCreated, caused by [0-9a-f]{8}", ended.lines[2]
    )
    assert ended.lines[3:5] == ["    exists: false -> true", '    path: "" -> "./mine"']
    assert f"FlakeInputAdded by anna, caused by {correlation.ids[0][:8]}" in ended.lines[6]
    assert ended.lines[7] == '    inputs.nixpkgs: + "github:NixOS/nixpkgs/good"'
    assert ended.lines[-1] == "chain verified: 2 events"


def test_a_history_ends_at_a_version_or_a_time(correlation: Correlation) -> None:
    words = ("audit", "history", "flake", correlation.imported)
    at_two = object_of(correlation.cli.call(*words, "--at", 2, "--json"))
    whole = object_of(correlation.cli.call(*words, "--json"))

    assert (at_two["version"], len(at_two["state"]["inputs"])) == (2, 1)
    assert at_two["steps"] == whole["steps"][:2]
    assert at_two["later"] == len(whole["steps"]) - 2 > 0
    for step in whole["steps"]:
        then = object_of(correlation.cli.call(*words, "--at", step["time"], "--json"))
        assert then["version"] == step["version"]
    before = correlation.cli.call(*words, "--at", "1h").out
    assert before.startswith(f"flake {correlation.imported}, without events at that time\n")
    nothing = correlation.cli.call("audit", "history", "flake", "unheard-of")
    assert (nothing.status, nothing.out) == (0, "flake unheard-of has no events\n")


def test_a_search_shows_actors_and_outcomes(correlation: Correlation) -> None:
    ended = correlation.cli.call("audit", "search", "--actor", "anna", "--since", "1h", "--oldest")
    assert (ended.status, ended.err) == (0, "")
    assert max(map(len, ended.lines)) <= 80
    assert [line.split()[2:4] for line in ended.lines[1:]] == [
        [correlation.ids[0][:8], "AddFlakeInput"],
        [correlation.ids[1][:8], "FlakeInputAdded"],
    ]

    found = object_of(correlation.cli.call("audit", "search", "--status", "rejected", "--json"))
    rejected = {item["id"]: item["type"] for item in found["items"]}
    assert correlation.rejected.command_id in rejected
    assert len(rejected) == 2, "and the question of the import where its flake is now"
    nothing = correlation.cli.call("audit", "search", "--until", "2000-01-01")
    assert (nothing.status, nothing.out) == (1, "nothing found\n")


def test_a_search_continues_at_its_cursor(correlation: Correlation) -> None:
    words: list[object] = ["audit", "search", "--aggregate", "flake", "--json"]
    every = object_of(correlation.cli.call(*words))["items"]
    pages: list[Any] = []
    after: list[object] = []
    while True:
        page = object_of(correlation.cli.call(*words, "--limit", 5, *after))
        pages += page["items"]
        if page["next"] is None:
            break
        after = ["--after", page["next"]]
    assert pages == every
    bad = correlation.cli.call(*words, "--after", "x")
    assert (bad.status, bad.err.count("\n")) == (2, 1)
    assert "'x' is not a cursor" in bad.err


def test_an_export_has_all_columns(correlation: Correlation) -> None:
    found = correlation.cli.call("audit", "search", "--oldest", "--limit", 1000, "--json")
    every = object_of(found)["items"]

    lines = correlation.cli.call("audit", "export").lines
    assert [json.loads(line) for line in lines] == every

    ended = correlation.cli.call("audit", "export", "--output", "all.csv", "--payload")
    assert (ended.status, ended.out) == (
        0,
        f"{len(every)} entries written to all.csv\n",
    )
    with (correlation.cli.folder / "all.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [item["id"] for item in every]
    assert list(rows[0]) == [*every[0], "payload"]
    added = next(row for row in rows if row["id"] == correlation.ids[1])
    assert json.loads(added["payload"])["url"] == "github:NixOS/nixpkgs/good"
    assert (added["actor"], added["status"], added["version"]) == ("anna", "", "2")

    ended = correlation.cli.call("audit", "export", "--format", "csv", "--actor", "bob")
    (row,) = csv.DictReader(io.StringIO(ended.out))
    assert (row["type"], row["code"]) == ("RemoveFlakeInput", "input_unknown")
    payloads = correlation.cli.call(
        "audit", "export", "--payload", "--id", "mine", "--kind", "event"
    )
    assert [json.loads(line)["payload"]["path"] for line in payloads.lines[:1]] == ["./mine"]


@pytest.mark.parametrize(
    ("output", "problem"),
    [("nowhere/all.csv", "No such file or directory"), (".", "Is a directory")],
    ids=["nowhere", "directory"],
)
def test_a_file_that_cannot_be_written_is_one_clear_line_and_leaves_nothing(
    correlation: Correlation, output: str, problem: str
) -> None:
    before = correlation.cli.files()
    ended = correlation.cli.call("audit", "export", "--output", output)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err == f"error: --output {output} cannot be written: {problem}\n"
    assert correlation.cli.files() == before


@pytest.mark.parametrize("words", [("trace", "01234567"), ("search",), ("export",)])
def test_without_an_index_the_error_says_what_to_do_and_creates_none(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    cli = CommandLine(tmp_path)
    ended = cli.call("audit", *words)

    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "there is no read model; start `" in ended.err
    assert "serve`, which builds it" in ended.err
    assert cli.files() == []


def test_without_a_server_the_index_answers_and_reports_what_is_unverified(
    correlation: Correlation, tmp_path: Path
) -> None:
    for file in (correlation.cli.folder / "var").glob("read_model.sqlite*"):
        if file.is_dir():
            continue  # a lock file
        shutil.copy(file, tmp_path / file.name)
    cli = without_server(tmp_path)
    ended = cli.call("audit", "trace", correlation.ids[0], "--database", "read_model.sqlite")

    assert (ended.status, ended.err) == (0, "")
    assert "RemoveFlakeInput flake other by bob" in ended.out
    assert "the index reflects the log up to position " in ended.lines[-2]
    assert ended.lines[-1].startswith(f"not verified: no server answered at {AWAY}")


def test_a_changed_record_is_detected_by_comparison_with_the_index(
    correlation: Correlation, tmp_path: Path
) -> None:
    for file in (correlation.cli.folder / "var").glob("read_model.sqlite*"):
        if file.is_dir():
            continue  # a lock file
        shutil.copy(file, tmp_path / file.name)
    with closing(sqlite3.connect(tmp_path / "read_model.sqlite")) as database:
        database.execute(
            "UPDATE eventstore_audit_event SET type = 'Other' WHERE id = ?", (correlation.ids[1],)
        )
        database.commit()
    words = ("audit", "trace", correlation.ids[0], "--database", tmp_path / "read_model.sqlite")
    ended = correlation.cli.call(*words)

    assert ended.status == 1
    assert "RECORD BROKEN: flake mine: position " in ended.out
    assert "when it was indexed it was Other" in ended.out
    chains = object_of(correlation.cli.call(*words, "--json"))["chains"]
    assert [chain["problem"] is None for chain in chains] == [False, True]
