"""Help: every subcommand has it, it fits a terminal, and the shared options are the same."""

from __future__ import annotations

import json
import os
import pty
import re
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from eventstore import nix
from eventstore.cli.app import GROUPS, SUBCOMMANDS, app
from eventstore.messages.queries import Query
from tests.integration.command_line import CommandLine

ALL = [
    *SUBCOMMANDS,
    *(f"{name} {each}" for name, group in GROUPS.items() for each in group.subcommands),
    *("query flake list", "query package list", "query config get-current"),
]
WITHOUT_SERVER = {
    *("copy", "keys new", "migrate", "ops nats", "query"),
    *("projection reset", "projection parked", "projection discard"),
    *("schema json", "schema asyncapi", "schema check", "new", "dev"),
    *("ops service", "ops monitoring"),
}


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@cache
def helped(*words: str) -> str:
    """The help of a subcommand, in a terminal of 80 columns; in this process, which is faster."""
    ended = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*words, "--help"])
    assert (ended.exit_code, ended.stderr) == (0, "")
    return ended.stdout


def options(text: str) -> dict[str, str]:
    """Each option with its help, without line breaks."""
    _, _, listed = text.partition("Options:\n")
    found = re.findall(r"^  (--[a-z-]+)(?: \S+)?  +((?:.*\n(?: {10,}.*\n?)*))", listed, re.M)
    return {name: " ".join(help_text.split()) for name, help_text in found}


@pytest.mark.parametrize("words", ["", *GROUPS, *ALL])
def test_help_fits_80_columns_and_explains_each_option(words: str) -> None:
    out = helped(*words.split())

    assert out.startswith("Usage: ")
    assert max(map(len, out.splitlines())) <= 80
    assert all(options(out).values())


def test_each_subcommand_is_listed_on_one_line(cli: CommandLine) -> None:
    out = cli.call("--help").out

    for name in (*SUBCOMMANDS, *GROUPS):
        assert re.search(rf"^  {name} +[A-Z].*[.]$", out, re.MULTILINE)
    assert "..." not in out.partition("Commands:")[2]


def test_each_query_is_listed_with_its_help() -> None:
    out = helped("query")

    for query in nix.QUERIES:
        name = f"{query.__aggregate__} {query.__action__.replace('_', '-')}"
        assert re.search(rf"^  {name} +[A-Z].*[.]$", out, re.MULTILINE), name


@pytest.mark.parametrize("query", nix.QUERIES, ids=lambda query: query.__name__)
def test_a_query_has_an_argument_or_an_option_for_each_field(query: type[Query[Any]]) -> None:
    out = helped("query", query.__aggregate__, query.__action__)

    for field in msgspec.structs.fields(query):
        flag = f"--{field.name.replace('_', '-')}"
        assert (field.name.upper() if field.required else flag) in out
    assert all(options(out).values())
    assert max(map(len, out.splitlines())) <= 80


def test_the_shared_options_are_the_same_everywhere() -> None:
    found = [options(helped(*words.split())) for words in ALL if words not in WITHOUT_SERVER]

    for name in ("--nats-url", "--config", "--dir"):
        assert len({each[name] for each in found}) == 1


def test_no_option_is_declared_twice() -> None:
    for words in ALL:
        names = re.findall(r"^  (--[a-z-]+)", helped(*words.split()), re.MULTILINE)
        assert len(names) == len(set(names)), words


def test_without_a_subcommand_the_help_is_shown(cli: CommandLine) -> None:
    ended = cli.call()

    assert ended.status == 2
    assert "demo" in ended.out + ended.err


def test_the_version_is_one_line(cli: CommandLine) -> None:
    ended = cli.call("--version")

    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(r"eventstore \d+\.\d+\.\d+\n", ended.out)


@pytest.mark.parametrize("words", ["", *GROUPS, *ALL])
def test_the_short_option_for_help_works_everywhere(words: str) -> None:
    ended = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*words.split(), "-h"])

    assert (ended.exit_code, ended.stdout) == (0, helped(*words.split()))


def test_everything_but_a_stream_of_its_own_can_be_json() -> None:
    streams = {"serve", "demo", "query", "audit export", "audit anchor", "ops nats"}
    streams |= {"schema json", "schema asyncapi"}  # which are JSON
    streams |= {"new", "dev", "shell", "console", "ops service", "ops monitoring"}  # for people

    assert {words for words in ALL if "--json" not in options(helped(*words.split()))} == streams


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("eventstore proj", ["projection"]),
        ("eventstore projection re", ["rebuild", "resume", "reset", "retry"]),
        ("eventstore projection pause --j", ["--json"]),
        ("eventstore query flake ", ["get", "list"]),
    ],
)
def test_words_are_completed(cli: CommandLine, typed: str, completed: list[str]) -> None:
    place = str(len(typed.split(" ")) - 1)
    asking = {"_EVENTSTORE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": place}
    ended = CommandLine(cli.folder, **asking).call()

    assert (ended.status, ended.err) == (0, "")
    assert set(completed) <= set(ended.out.split())


def test_errors_are_red_on_a_terminal_unless_colours_are_unwanted(cli: CommandLine) -> None:
    def shown(**environ: str) -> str:
        controller, terminal = pty.openpty()
        wrong = CommandLine(cli.folder, NATS_URL="nonsense://", **environ)
        with wrong.start("events", stderr=terminal) as running:
            running.process.wait(45)
        os.close(terminal)
        with os.fdopen(controller, "rb") as screen:
            return screen.read1().decode()

    red = "\x1b[31m"
    assert red in shown()
    plain = shown(NO_COLOR="1")
    assert plain.startswith("error: ")
    assert "\x1b" not in plain
    assert "\x1b" not in CommandLine(cli.folder, NATS_URL="nonsense://").call("events").err


@pytest.mark.parametrize("words", ["keys new", "keys new --output own.key"])
def test_a_new_master_key_can_be_json(cli: CommandLine, words: str) -> None:
    made = json.loads(cli.call(*words.split(), "--name", "own", "--json").out)

    assert made.pop("name") == "own"
    assert list(made) == (["file"] if "--output" in words else ["key"])
