"""Help: every subcommand has it, it fits a terminal, and the shared options are the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.command_line import CommandLine

SUBCOMMANDS = (
    "demo",
    "serve",
    "send",
    "events",
    "nix import",
    *("command status", "parked list", "parked show", "parked retry", "parked discard"),
    *("config get", "config set", "config unset"),
    *("projection list", "projection show", "projection rebuild", "projection pause"),
    *("projection resume", "projection retry"),
)
WITHOUT_SERVER = ("migrate", "projection reset", "projection parked", "projection discard")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def options(text: str) -> dict[str, str]:
    """Each option with its help, spaces made one."""
    _, _, listed = text.partition("Options:\n")
    found = re.findall(r"^  (--[a-z-]+)(?: \S+)?  +((?:.*\n(?: {10,}.*\n?)*))", listed, re.M)
    return {name: " ".join(said.split()) for name, said in found}


@pytest.mark.parametrize(
    "words",
    ["", "nix", "command", "parked", "config", "projection", *WITHOUT_SERVER, *SUBCOMMANDS],
)
def test_it_fits_80_columns_and_says_what_each_option_is_for(cli: CommandLine, words: str) -> None:
    ended = cli.call(*words.split(), "--help")

    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("Usage: ")
    assert max(map(len, ended.lines)) <= 80
    assert all(options(ended.out).values())


def test_all_subcommands_are_named_in_one_line_each(cli: CommandLine) -> None:
    out = cli.call("--help").out

    alone = ("demo", "serve", "migrate", "send", "events")
    for name in (*alone, "nix", "command", "parked", "config", "projection"):
        assert re.search(rf"^  {name} +[A-Z].*[.]$", out, re.MULTILINE)
    assert "..." not in out.partition("Commands:")[2]


def test_the_shared_options_are_the_same_everywhere(cli: CommandLine) -> None:
    found = [options(cli.call(*words.split(), "--help").out) for words in SUBCOMMANDS]

    for name in ("--nats-url", "--config", "--dir"):
        assert len({each[name] for each in found}) == 1


def test_no_option_stands_for_two_things(cli: CommandLine) -> None:
    for words in SUBCOMMANDS:
        names = re.findall(r"^  (--[a-z-]+)", cli.call(*words.split(), "--help").out, re.MULTILINE)
        assert len(names) == len(set(names)), words


def test_without_a_subcommand_the_help_is_shown(cli: CommandLine) -> None:
    ended = cli.call()

    assert ended.status == 2
    assert "demo" in ended.out + ended.err


def test_the_version_is_one_line(cli: CommandLine) -> None:
    ended = cli.call("--version")

    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(r"eventstore \d+\.\d+\.\d+\n", ended.out)
