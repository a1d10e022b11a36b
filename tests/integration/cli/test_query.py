"""`eventstore query`: tables, JSON and exit statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.nix import samples
from tests.integration.command_line import CommandLine, ProcessResult

HELLO = {"flake_ref": ".", "attribute": "hello", "output_path": "/nix/store/a-hello"}
WEB = {"name": "web", "content": "{ ... }:\n{\n  \x1b[31mnginx = true;\n}"}


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A service with the samples and one of everything else; the tests only read."""
    cli = CommandLine(tmp_path_factory.mktemp("query"))
    with cli.serving():
        assert cli.call("nix", "import", *samples()).status == 0
        for words in (
            ("module.create", "web", WEB),
            ("config.create", "host", {"name": "host", "modules": ["web", "ssh"]}),
            ("config.activate", "host", {"activation": "switch"}),
            ("package.build", "hello", HELLO),
            ("package.cache", "hello", {"cache_url": "https://cache.example.org"}),
        ):
            subject, own, data = words
            sent = cli.call(
                *("send", f"nix.cmd.{subject}", "--id", own, "--data", json.dumps(data), "--json")
            )
            assert sent.status == 0, sent
        position = json.loads(sent.out)["position"]
        assert cli.call("query", "package", "get", "hello", "--wait", position).status == 0
        yield cli


def rows(ended: ProcessResult) -> list[dict[str, object]]:
    return [json.loads(line) for line in ended.lines]


def rest(ended: ProcessResult) -> dict[str, object]:
    """The JSON on standard error."""
    (line,) = ended.err.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_a_list_is_a_table_with_its_position(cli: CommandLine) -> None:
    ended = cli.call("query", "config", "list")

    assert (ended.status, ended.err) == (0, "")
    assert ended.lines[0].split()[:3] == ["id", "name", "modules"]
    assert ended.lines[1].split()[:4] == ["host", "host", "web,", "ssh"]
    assert ended.lines[-2] == "too wide to show: version, updated_at; see --json"
    assert re.fullmatch(r"1 item, position \d+ of the log", ended.lines[-1])


@pytest.mark.parametrize(
    "words",
    [
        ("flake", "list"),
        ("package", "list"),
        ("module", "list"),
        ("overlay", "list"),
        ("config", "get-history", "host"),
    ],
    ids="-".join,
)
def test_tables_fit_a_terminal(cli: CommandLine, words: tuple[str, ...]) -> None:
    ended = cli.call("query", *words)
    assert ended.status == 0
    assert max(map(len, ended.lines)) <= 80


def test_one_object_is_shown_in_full(cli: CommandLine) -> None:
    ended = cli.call("query", "module", "get", "web")

    assert ended.status == 0
    assert re.search(r"^name +web$", ended.out, re.MULTILINE)
    assert "content\n  { ... }:\n  {\n    \\x1b[31mnginx = true;\n  }\nposition " in ended.out


def test_parts_of_an_object_are_shown_below_it(cli: CommandLine) -> None:
    ended = cli.call("query", "package", "get-status", "hello")
    assert "caches\n  cache_url    https://cache.example.org\n" in ended.out
    assert re.search(r"^status +cached$", ended.out, re.MULTILINE)


def test_names_may_be_written_as_in_subjects(cli: CommandLine) -> None:
    hyphen, underscore = (
        cli.call("query", "config", name, "host") for name in ("get-history", "get_history")
    )
    assert hyphen == underscore
    assert "ConfigurationActivated" in hyphen.out


def test_json_is_an_object_a_line(cli: CommandLine) -> None:
    got = cli.call("query", "package", "get", "hello", "--json")
    listed = cli.call("query", "package", "list", "--json", "--attribute", "hello")

    assert rows(got) == rows(listed)
    assert rows(got)[0]["output_path"] == "/nix/store/a-hello"
    assert rest(listed) == {**rest(got), "next": None}
    assert isinstance(rest(got)["position"], int)


def test_a_cursor_continues_a_list_and_all_prints_it_in_full(cli: CommandLine) -> None:
    whole = rows(cli.call("query", "flake", "list", "--json"))
    assert len(whole) == len(samples())

    first = cli.call("query", "flake", "list", "--limit", 2)
    more = re.search(r"^more: --after (\S+)$", first.out, re.MULTILINE)
    assert more
    second = cli.call("query", "flake", "list", "--limit", 2, "--after", more[1], "--json")
    assert rows(second) == whole[2:4]
    for words in ((), ("--limit", 1)):
        every = cli.call("query", "flake", "list", "--all", "--json", *words)
        assert rows(every) == whole
        assert rest(every)["next"] is None
    tables = cli.call("query", "flake", "list", "--all", "--limit", 2)
    assert f"{len(whole)} items, position" in tables.lines[-1]


def test_filters_are_options(cli: CommandLine) -> None:
    def ids(*words: object) -> list[object]:
        return [row["id"] for row in rows(cli.call("query", *words, "--json"))]

    assert ids("config", "list", "--module", "ssh") == ["host"]
    assert ids("config", "list", "--activated", "no") == []
    assert ids("config", "list", "--activated", "any") == ["host"]
    assert ids("module", "list", "--deleted", "yes") == []
    assert ids("module", "list", "--name-prefix", "w") == ["web"]
    (flake, *_) = ids("flake", "list", "--input-name", "nixpkgs")
    names = [row["name"] for row in rows(cli.call("query", "flake", "get_inputs", flake, "--json"))]
    assert "nixpkgs" in names


def test_not_found_is_status_1(cli: CommandLine) -> None:
    for words in (("flake", "get", "none"), ("config", "get-current", "none", "--json")):
        ended = cli.call("query", *words)
        assert (ended.status, ended.out) == (1, "")
        assert ended.err.startswith("not found: there is no ")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("flake", "get", "a.b"), "error: aggregate id 'a.b' is not allowed: 1 to 128 of"),
        (("flake", "list", "--after", "x"), "error: after: 'x' is not a cursor of this list"),
        (("flake", "list", "--wait", 99_999, "--timeout", 2.5), "error: the read model is at"),
        (("flake", "list", "--limit", 1_001), "--limit"),
        (("module", "list", "--deleted", "perhaps"), "--deleted"),
        (("flake", "get"), "ID"),
        (("flake", "none"), "none"),
    ],
    ids=["id", "cursor", "wait", "limit", "choice", "argument", "query"],
)
def test_errors_are_status_2(cli: CommandLine, words: tuple[object, ...], problem: str) -> None:
    ended = cli.call("query", *words)
    assert (ended.status, ended.out) == (2, "")
    assert re.search(problem, ended.err)


def test_without_a_service_the_error_says_what_to_do(tmp_path: Path) -> None:
    ended = CommandLine(tmp_path).call("query", "flake", "list", "--nats-url", "nats://127.0.0.1:9")
    assert ended.status == 2
    assert "start a service with `" in ended.err


def test_a_service_lists_the_queries_it_answers(cli: CommandLine) -> None:
    (found,) = rows(cli.call("discover", "--json", "--count", 1))
    endpoints = found["endpoints"]
    assert isinstance(endpoints, list)
    subjects = {each["subject"] for each in endpoints if each["kind"] == "query"}
    assert {"nix.query.flake.get", "nix.query.config.get_history"} < subjects
    assert len(subjects) == 22  # with a command's status, audit's four and the two of processes
