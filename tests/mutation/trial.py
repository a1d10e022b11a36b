"""Trials: the tests run in a copy of the tree, with one mutation in it, within a bound of time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import Mutant, apply

__all__ = ["Result", "Tree", "run"]

_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "var", "build", "dist", "*.egg-info")
_FLAKES = 3
_FAREWELL = 15.0
_NONE_TO_RUN = 5  # pytest's exit status


class Result(NamedTuple):
    """What became of a trial: "noticed", "missed", "unreached" or "hung", which is noticed too."""

    what: str
    tests: int
    seconds: float

    @property
    def is_noticed(self) -> bool:
        """Whether the mutation did not stay unseen."""
        return self.what in ("noticed", "hung")


class Tree:
    """A copy of the project, in which files are changed; the project itself is not touched."""

    def __init__(self, project: Path, copy: Path) -> None:
        self.path = copy
        shutil.copytree(project, copy, ignore=_NOT_COPIED)

    def pytest(self, arguments: Sequence[str], bound: float = 3600.0) -> tuple[int | None, str]:
        """Run pytest in the copy: its exit status, None where it took longer; and what it said."""
        own_plugin = ["-p", "no:eventstore"]  # or a mutant could prevent pytest from starting
        command = [sys.executable, "-m", "pytest", "--no-header", "-q", *own_plugin, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self.path)}
        return run(command, self.path, environment, bound)

    def collect(self, arguments: Sequence[str]) -> list[str]:
        """The names of the tests that pytest finds by these arguments."""
        _, output = self.pytest([*arguments, "--collect-only", "--no-cov", "-n", "0"])
        return [line for line in output.splitlines() if "::" in line and not line.startswith(" ")]

    def attempt(self, name: str, mutant: Mutant, tests: Sequence[str], bound: float) -> Result:
        """Whether the tests notice a mutation of the file `name`.

        A failure counts when it comes again: the machine may be busy with other things.
        """
        file = self.path / name
        source = file.read_text()
        began = time.monotonic()
        try:
            self._write(file, apply(source, mutant))
            what = self._verdict(tests, bound) if tests else "unreached"
        finally:
            self._write(file, source)
        return Result(what, len(tests), time.monotonic() - began)

    def _verdict(self, tests: Sequence[str], bound: float) -> str:
        chosen = self.path / "chosen-tests.txt"
        chosen.write_text("".join(f"{test}\n" for test in tests))
        options = ["-n", "0", "--no-cov", "-x", "--tb=no", "-o", "timeout=30"]
        for _ in range(_FLAKES):
            status, _ = self.pytest([*options, f"@{chosen}"], bound)
            if status is None:
                return "hung"
            if status == 0:
                return "missed"
            again, _ = self.pytest([*options, "--last-failed", f"@{chosen}"], bound)
            if again is None:
                return "hung"
            if again not in (0, _NONE_TO_RUN):
                return "noticed"
        return "missed"

    def _write(self, file: Path, source: str) -> None:
        """Write a module so that it is compiled again, within the same second too."""
        file.write_text(source)
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*.pyc"):
            compiled.unlink()


def run(
    command: Sequence[str], directory: Path, environment: dict[str, str], bound: float
) -> tuple[int | None, str]:
    """Run a program to its end, or end it and all it has started after `bound` seconds."""
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        status: int | None = None
        try:
            status = process.wait(bound)
        except subprocess.TimeoutExpired:
            _end(process)
        except BaseException:
            _end(process)
            raise
        output.seek(0)
        return status, output.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, so that it ends its servers; kill what is still there afterwards."""
    started = {pid: _birth(pid) for pid in _descendants(process.pid)}
    process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_FAREWELL)
    process.kill()
    process.wait()
    for pid, birth in started.items():
        with suppress(ProcessLookupError):
            if birth and _birth(pid) == birth:  # and not another process of that number by now
                os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    own = [int(each) for each in children.read_text().split()] if children.exists() else []
    return [each for child in own for each in (child, *_descendants(child))]


def _birth(pid: int) -> str:
    """When a process was started, in ticks of the machine; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
