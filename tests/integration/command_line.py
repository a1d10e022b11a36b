"""The command line as a person has it: in a folder, as a process, with its output and status."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from eventstore.cli import main
from eventstore.server.embedded import running_server
from tests.integration.forking import ForkedProcess, forker
from tests.log_formats import formats_restored

ROOT = Path(__file__).parents[2]
BOUND = 45.0
"""Seconds until what has not happened never will; a busy machine takes many to start a process."""
AWAY = "nats://127.0.0.1:1"
"""Where no server ever answers."""

_OF_SHELL = {">", "|"}


class ProcessResult(NamedTuple):
    """What a finished subcommand leaves."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class RunningProcess:
    """A subcommand that has been started and must end before the test does."""

    def __init__(self, process: subprocess.Popen[str] | ForkedProcess) -> None:
        self.process = process

    def line(self, *, of_errors: bool = False) -> str:
        """The next line of its output; empty where it has ended or takes too long."""
        stream = self.process.stderr if of_errors else self.process.stdout
        assert stream is not None
        timer = threading.Timer(BOUND, self.process.kill)
        timer.start()
        try:
            return stream.readline().rstrip("\n")
        finally:
            timer.cancel()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self, seconds: float = BOUND) -> ProcessResult:
        """What is left of its output, when it has ended by itself."""
        out, err = self.process.communicate(timeout=seconds)
        return ProcessResult(self.process.wait(), out, err)

    def stopped(self, number: int = signal.SIGINT, seconds: float = BOUND) -> ProcessResult:
        self.send(number)
        return self.ended(seconds)


class CommandLine:
    """Runs subcommands in a folder, with nothing in the environment that speaks of NATS."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.environ = environ

    def run(self, *words: object, **options: Any) -> ProcessResult:
        """Run to the end, as a process of its own."""
        with self.start(*words, forked=False, **options) as running:
            return running.ended()

    def typed(self, command: str, *, stdin: str = "", seconds: float = BOUND) -> ProcessResult:
        """Run a command as it is typed, to the end; `PATH` is to have the programs.

        One that is this program alone runs inside of this process, which is faster, and gets
        `stdin`; another may take some `seconds`.
        """
        program, *words = shlex.split(command, comments=True)
        if program == "eventstore" and not _OF_SHELL.intersection(words):
            return self.call(*words, stdin=stdin)
        ended = subprocess.run(
            ["bash", "-c", command],  # noqa: S607  # whichever the user has
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        return ProcessResult(ended.returncode, ended.stdout, ended.stderr)

    @contextlib.contextmanager
    def start(
        self,
        *words: object,
        forked: bool = True,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
    ) -> Iterator[RunningProcess]:
        """Start it, by fork or as a Python of its own."""
        make = forker().start if forked else _python
        given = [*map(_word, words)], self.folder, self._environ()
        process = make("eventstore", *given, stdout, stderr)
        try:
            yield RunningProcess(process)
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    @contextlib.contextmanager
    def serving(self, *words: object, forked: bool = True) -> Iterator[RunningProcess]:
        """A service that is ready; it must have been stopped, or is killed at the end."""
        with self.start("serve", *words, forked=forked) as running:
            line = running.line()
            assert line.startswith("ready: "), (line, running.ended().err)
            yield running

    def call(self, *words: object, stdin: str = "") -> ProcessResult:
        """Run to the end inside of this process, which is faster."""
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            modules_forgotten(self.folder),
            formats_restored(),
            mock.patch.dict(os.environ, self._environ(), clear=True),
            mock.patch.object(sys, "argv", ["eventstore", *map(_word, words)]),
            mock.patch.object(
                sys.modules["__main__"], "__package__", None
            ),  # or argv[0] is not used
            mock.patch.object(sys, "stdin", io.StringIO(stdin)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
        return ProcessResult(status, out.getvalue(), err.getvalue())

    @property
    def server_directory(self) -> Path:
        return self.folder / "var" / "nats"

    @property
    def server_url(self) -> str | None:
        """Where the embedded server of the folder listens, if it runs."""
        return running_server(self.server_directory)

    def server_pid(self) -> int:
        (ports,) = self.server_directory.glob("nats-server_*.ports")
        return int(ports.stem.rpartition("_")[2])

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))

    def _environ(self) -> Mapping[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NATS_", "EVENTSTORE_")) or name == "NATS_SERVER_BIN"
        }
        return {
            **inherited,
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "error",
            "COLUMNS": "80",
            **self.environ,
        }


@contextlib.contextmanager
def modules_forgotten(folder: Path) -> Iterator[None]:
    """Have modules of a folder imported from it, and by nobody else later."""
    before = set(sys.modules)
    with mock.patch.object(sys, "path", list(sys.path)):
        try:
            yield
        finally:
            for name in sys.modules.keys() - before:
                module = sys.modules[name]
                places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
                if any(str(place).startswith(f"{folder}/") for place in places):
                    del sys.modules[name]


def without_server(folder: Path) -> CommandLine:
    """The command line in a folder where no server answers, and none is waited for at length."""
    (folder / "impatient.toml").write_text("[nats.retry]\nfirst_connect_ms = 100\n")
    return CommandLine(folder, NATS_URL=AWAY, EVENTSTORE_CONFIG="impatient.toml")


def _python(
    module: str,
    words: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    stdout: Any,
    stderr: Any,
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,  # a test may signal its whole group, as a terminal does
        text=True,
    )


def _word(word: object) -> str:
    return str(word)
