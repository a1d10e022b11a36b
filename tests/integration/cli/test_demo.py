"""`eventstore demo`: the whole pipeline once, on real lock files."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import termios
from pathlib import Path

import pytest

from eventstore.config import redacted_url
from eventstore.nix import samples
from tests.integration.command_line import BOUND, CommandLine

SHARED = Path(__file__).parents[4] / "shared" / "data" / "flakes"
REAL = sorted(SHARED.glob("*.lock"))

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
ID = r"[0-9a-f]{8}…"
SAMPLE_COMMANDS = 13


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def outcomes(out: str) -> list[str]:
    return re.findall(
        rf"^{ID}  (?:CreateFlake|AddFlakeInput|RemoveFlakeInput) .*  (\S.*?) *$", out, re.MULTILINE
    )


def events(out: str) -> list[tuple[str, ...]]:
    """Position, type, aggregate, version and cause of each event that was shown."""
    row = rf"^(\d+) +[\d:.]+  (\w+) +flake ({ID}) +(\d+) +({ID})$"
    return re.findall(row, out, re.MULTILINE)


def rows(out: str, table: str) -> list[str]:
    found = re.search(rf"^{table}, (\d+) rows?\n.*\n((?:{ID} .*\n)*)", out, re.MULTILINE)
    assert found is not None
    lines = found[2].splitlines()
    assert len(lines) == int(found[1])
    return lines


def lock_file(path: Path, **inputs: str) -> Path:
    nodes = {
        name: {"locked": {"type": "github", "owner": "o", "repo": name, "rev": rev * 40}}
        for name, rev in inputs.items()
    }
    root = {"inputs": {name: name for name in inputs}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"version": 7, "root": "root", "nodes": {"root": root, **nodes}}))
    return path


def test_it_prints_each_step_and_can_be_repeated_on_the_same_data(
    cli: CommandLine,
) -> None:
    """Into a pipe, so without colours or anything else that commands a terminal."""
    before = os.times()
    first = cli.run("demo")
    after = os.times()

    assert (first.status, first.err) == (0, "")
    took = after.children_user + after.children_system
    took -= before.children_user + before.children_system
    assert took < 6  # of a processor: how long that is depends on what else runs
    assert outcomes(first.out) == ["success"] * SAMPLE_COMMANDS
    shown = events(first.out)
    assert [int(position) for position, *_ in shown] == list(range(1, SAMPLE_COMMANDS + 1))
    assert {kind for _, kind, *_ in shown} == {"FlakeCreated", "FlakeInputAdded"}
    commands = re.findall(rf"^({ID})  (?:Create|Add)", first.out, re.MULTILINE)
    assert sorted(cause for *_, cause in shown) == sorted(commands)
    versions: dict[str, list[int]] = {}
    for _, _, aggregate, version, _ in shown:
        versions.setdefault(aggregate, []).append(int(version))
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    assert len(rows(first.out, "flake")) == len(samples())
    assert len(rows(first.out, "flake_input")) == SAMPLE_COMMANDS - len(samples())
    assert "python -m eventstore serve\n" in first.out
    assert [char for char in first.out if not char.isprintable() and char != "\n"] == []
    assert first.out.count("importing") == 1
    assert max(map(len, first.lines)) <= 80
    assert cli.server_url is None

    second = cli.call("demo")

    assert (second.status, second.err) == (0, "")
    assert outcomes(second.out) == ["done before"] * SAMPLE_COMMANDS
    assert events(second.out) == shown
    assert rows(second.out, "flake") == rows(first.out, "flake")
    assert rows(second.out, "flake_input") == rows(first.out, "flake_input")


def test_in_a_terminal_it_fits_80_columns_too(cli: CommandLine) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    cli.environ |= {"TERM": "xterm-256color"}
    with cli.start("demo", stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        out = _read_terminal(ours)
        assert running.ended().status == 0

    shown = ESCAPES.sub("", out)
    assert "\x1b[32m" in out
    assert "\x1b[?25h" in out, "the cursor comes back"
    assert max(map(len, re.split(r"[\r\n]+", shown))) <= 80
    assert "13/13" in shown
    assert len(events(shown.replace("\r\n", "\n"))) == SAMPLE_COMMANDS


def _read_terminal(descriptor: int) -> str:
    parts: list[bytes] = []
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65_536)
            except OSError:  # how a terminal says that the other side is closed
                part = b""
            if not part:
                return b"".join(parts).decode()
            parts.append(part)


@pytest.mark.skipif(not REAL, reason=f"no lock files in {SHARED}")
def test_it_accepts_every_real_lock_file(cli: CommandLine) -> None:
    ended = cli.call("demo", *REAL)

    assert (ended.status, ended.err) == (0, "")
    assert len(rows(ended.out, "flake")) == len(REAL)
    assert set(outcomes(ended.out)) == {"success"}
    assert len(events(ended.out)) == len(outcomes(ended.out))


def test_a_file_named_twice_is_imported_once(cli: CommandLine) -> None:
    file = samples()[0]
    ended = cli.call("demo", file, file)

    assert (ended.status, ended.err) == (0, "")
    assert outcomes(ended.out) == ["success"] * 4


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", '{"version": 99}', "\x00\xff"])
def test_a_bad_file_is_an_error_before_anything_is_started(
    cli: CommandLine, content: str | None
) -> None:
    if content is not None:
        (cli.folder / "bad.lock").write_text(content)
    before = cli.files()
    ended = cli.call("demo", samples()[0], "bad.lock")

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("error: lock file 'bad.lock': ")
    assert ended.err.count("\n") == 1
    assert cli.files() == before


def test_of_a_changed_lock_file_the_difference_is_imported(cli: CommandLine) -> None:
    first = cli.call("demo", lock_file(cli.folder / "flake.lock", nixpkgs="a", same="d"))
    second = cli.call("demo", lock_file(cli.folder / "flake.lock", nixpkgs="b", same="d", more="c"))

    assert first.status == 0
    assert (second.status, second.err) == (0, "")
    assert outcomes(second.out) == ["done before", "done before", *["success"] * 3]
    assert len(rows(second.out, "flake_input")) == 3


def test_control_sequences_in_names_are_escaped(cli: CommandLine) -> None:
    file = lock_file(cli.folder / "[red]\x1b[31m:smile:" / "flake.lock", **{"[/b]": "a"})
    ended = cli.call("demo", file)

    assert (ended.status, ended.err) == (0, "")
    (row,) = rows(ended.out, "flake")
    assert r"[red]\x1b[31m:smile:" in row
    assert "[/b]" in rows(ended.out, "flake_input")[0]
    assert "\x1b" not in ended.out


def test_beside_a_service_in_the_same_folder_it_is_refused(cli: CommandLine) -> None:
    with cli.serving() as service:
        ended = cli.call("demo")
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert f"a service runs in var already, on {redacted_url(str(cli.server_url))}" in ended.err
        assert "--dir" in ended.err
        assert cli.call("nix", "import", samples()[0]).status == 0
        assert cli.call("demo", "--dir", "other", samples()[0]).status == 0
        assert service.stopped().status == 0
    assert (cli.folder / "other" / "read_model.sqlite").exists()


def test_ctrl_c_leaves_nothing_behind(cli: CommandLine) -> None:
    with cli.start("demo") as running:
        assert running.line().startswith("1. ")
        ended = running.stopped()

    assert ended.status == 130
    assert ended.err == ""
    assert cli.server_url is None
    assert cli.call("demo").status == 0


def test_a_closed_pipe_does_not_stop_it(cli: CommandLine) -> None:
    with cli.start("demo") as running:
        assert running.process.stdout is not None
        assert running.line().startswith("1. ")
        running.process.stdout.close()
        assert running.process.wait(BOUND) == 0
        assert running.process.stderr is not None
        assert running.process.stderr.read() == ""

    assert outcomes(cli.call("demo").out) == ["done before"] * SAMPLE_COMMANDS


def test_a_terminated_demo_leaves_no_server(cli: CommandLine) -> None:
    with cli.start("demo") as running:
        assert running.line().startswith("1. ")
        assert running.stopped(signal.SIGTERM).status == -signal.SIGTERM
    assert cli.call("demo", samples()[0]).status == 0
