"""The code of the README, of the quickstart and of the examples runs as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.command_line import BOUND, CommandLine
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]


def blocks(language: str, document: str = "docs/quickstart.md") -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def printed(program: Path, directory: Path) -> str:
    """The standard output of a program, which must not write to standard error."""
    result = subprocess.run(
        [sys.executable, program], cwd=directory, capture_output=True, text=True, timeout=BOUND
    )
    assert result.stderr == ""
    return result.stdout


def test_the_bank_is_at_most_sixty_lines() -> None:
    bank = blocks("python", "README.md")[0]
    assert bank == (ROOT / "examples" / "bank.py").read_text(encoding="utf-8")
    assert len([line for line in bank.splitlines() if line.strip()]) <= 60


def test_the_quickstart_has_the_bank_in_pieces() -> None:
    *pieces, _rules, _program = blocks("python")
    assert len(pieces) == 6
    for piece in pieces:
        assert piece in blocks("python", "README.md")[0]
    lines = "".join(pieces).replace("\n", "")
    assert lines == blocks("python", "README.md")[0].replace("\n", "")


def test_the_readme_is_read_in_some_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the bank alone."""
    (tmp_path / "bank.py").write_text(blocks("python", "README.md")[0], encoding="utf-8")
    return tmp_path


def test_the_scenarios_of_the_quickstart_hold(folder: Path) -> None:
    (folder / "rules.py").write_text(blocks("python")[-2], encoding="utf-8")
    assert printed(folder / "rules.py", folder) == ""


def test_the_program_of_the_quickstart_prints_the_quoted_output(folder: Path) -> None:
    (folder / "program.py").write_text(blocks("python")[-1], encoding="utf-8")
    assert printed(folder / "program.py", folder) == blocks("text")[0]


VARYING = {
    r"[0-9a-f]{8}-[0-9a-f-]{27}": "ID",
    r"caused by [0-9a-f]{8}": "caused by ID",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}": "TIME",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "TIME",
    r"in [\d.]+ s:": "in TIME:",
    r"\d:\d\d:\d\d": "TIME",
    r"up \d+ s, \d+ MB": "up TIME, SIZE",
    r"127\.0\.0\.1:\d+": "ADDRESS",
    r"(live +\d+ +\d+ +)[\d-]+": r"\1RATE",
}
"""What differs from run to run."""


def stable(output: str) -> list[str]:
    for pattern, name in VARYING.items():
        output = re.sub(pattern, name, output)
    return [line.rstrip() for line in output.splitlines()]


def session(block: str) -> list[tuple[str, str]]:
    """The commands of a block, and what it says that each prints; `...` is the rest of it."""
    parts = [each.partition("\n") for each in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in parts]


def test_the_session_with_the_bank_is_what_happens(folder: Path) -> None:
    setting_up, talking = map(session, blocks("console")[2:4])
    exported = dict(re.findall(r"^export (\w+)=(\S+)$", "\n".join(dict(setting_up)), re.MULTILINE))
    listed = exported["EVENTSTORE_OPERATIONS_METRICS_ADDRESS"]
    (port,) = free_ports(1)
    exported["EVENTSTORE_OPERATIONS_METRICS_ADDRESS"] = f"127.0.0.1:{port}"
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    cli = CommandLine(folder, PATH=binaries, **exported)
    with cli.start("serve") as running:
        assert stable(running.line()) == stable(setting_up[-1][1])
        for command, expected in talking:
            ended = cli.typed(command.replace(listed, f"127.0.0.1:{port}"))
            wanted, _, rest = expected.partition("...\n")
            assert rest == ""
            shown = stable(ended.out)
            if "...\n" in expected:
                shown = shown[: len(wanted.splitlines())]
            assert shown == stable(wanted), (command, ended.err)
        assert running.stopped().status == 0


def test_the_to_do_list_runs_with_its_read_model_and_its_subscriber(tmp_path: Path) -> None:
    expected = "notified: milk is done\nbuy milk: done\nbuy tea: to do\n"
    assert printed(ROOT / "examples" / "todo.py", tmp_path) == expected
