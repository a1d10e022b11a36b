"""A start: `new` makes a project, `dev` runs it and starts it again, `shell` looks inside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore.scaffold import project_files
from tests.integration.command_line import BOUND, CommandLine


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that `eventstore new` has made."""
    made = CommandLine(tmp_path).call("new", "tea-house")
    assert made.status == 0
    assert made.lines[-1] == "next: cd tea-house && make test && make run"
    return tmp_path / "tea-house"


def test_what_it_says_it_made_is_there(project: Path) -> None:
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert files == set(map(str, project_files("tea-house")))
    assert {"Makefile", "compose.yaml", "tea_house/app.py", "tests/test_service.py"} <= files
    texts = [path.read_text() for path in project.rglob("*") if path.is_file()]
    assert not any(re.search(r"\{\{\w+\}\}", text) for text in texts)


def test_its_own_tests_pass(project: Path) -> None:
    """That its types are right, too, is found by the test of all code that users read."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=110, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Tea", "'Tea' cannot name a project"),
        ("1st", "'1st' cannot name a project"),
        ("a" * 41, "cannot name a project"),
        ("projections", "is the name of another package"),
        ("taken", "taken exists already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_made(
    tmp_path: Path, name: str, problem: str
) -> None:
    (tmp_path / "taken").mkdir()
    ended = CommandLine(tmp_path).call("new", name)
    assert ended.status == 2
    assert problem in ended.err
    assert [path.name for path in tmp_path.rglob("*")] == ["taken"]


SESSION = """
outcome = await client.execute(PlaceOrder(article="tea", quantity=2))
outcome.status
async for event in store.read("order", outcome.aggregate_id): print(event.type)

(await client.ask(ListOrders(), wait_for=outcome.position)).items[0].article
1 / 0
raise KeyboardInterrupt
app.name
"""


@pytest.mark.timeout(150)
def test_it_runs_is_started_again_and_can_be_looked_into(project: Path) -> None:
    cli = CommandLine(project)
    with cli.start("dev", forked=False) as running:
        assert running.line().startswith("ready: tea-house 0.1.0 on ")

        ended = subprocess.run(
            [sys.executable, "-m", "eventstore", "shell"],
            cwd=project,
            input=SESSION,
            capture_output=True,
            text=True,
            timeout=BOUND,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.splitlines() == ["'success'", "OrderPlaced", "'tea'", "'tea-house'"]
        assert ended.stderr.startswith("tea-house 0.1.0 on nats://")
        assert "ZeroDivisionError: division by zero" in ended.stderr

        module = project / "tea_house" / "order.py"
        rules = module.read_text()
        module.write_text(rules + "wrong = nothing\n")
        assert running.line() == "order.py changed: starting again"
        while "NameError" not in (line := stderr_line(running.process)):
            assert line
        module.write_text(rules)
        assert running.line() == "order.py changed: starting again"
        assert running.line().startswith("ready: tea-house 0.1.0 on ")
        # As in a terminal, where both processes get it.
        assert running.stopped(signal.SIGINT).status == 130


def stderr_line(process: object) -> str:
    stream = process.stderr  # type: ignore[attr-defined]
    return str(stream.readline())


def test_ctrl_c_stops_what_runs_at_the_prompt_and_not_the_prompt(project: Path) -> None:
    cli = CommandLine(project)
    with cli.serving() as service:
        shell = subprocess.Popen(
            [sys.executable, "-u", "-m", "eventstore", "shell"],
            cwd=project,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert shell.stdin is not None
        assert shell.stdout is not None
        try:
            for what in (
                "import asyncio\nprint('sleeps'); await asyncio.sleep(1000)\n",
                "if True:\n    print('loops')\n    while True: pass\n\n",
            ):
                shell.stdin.write(what)
                shell.stdin.flush()
                assert shell.stdout.readline() in {"sleeps\n", "loops\n"}
                shell.send_signal(signal.SIGINT)
            shell.stdin.write("print('goes on')\n")
            shell.stdin.close()
            assert shell.stdout.read() == "goes on\n"
            assert shell.wait(BOUND) == 0
        finally:
            shell.kill()
            shell.wait()
            shell.stdout.close()
        assert service.stopped().status == 0
