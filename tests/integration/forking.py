"""Starts of programs by fork, from a process that has imported the library already.

To import all that `serve` needs takes much longer than what most tests do with it. What runs is the
same: a module as the main program, in a folder, with an environment and with streams of its own.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, TextIO

ROOT = Path(__file__).parents[2]
REQUEST_BYTES = 1 << 17


class ForkedProcess:
    """A child of the process that forks; it has what the tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int, stdout: int | None, stderr: int | None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = _text(stdout)
        self.stderr = _text(stderr)
        self._status = status

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = int(os.read(self._status, 20))
            os.close(self._status)
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What is left of its output; it is killed if it does not end in time."""
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(_rest(self.stderr)), daemon=True)
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            self.kill()

        timer = threading.Timer(timeout, end)
        timer.start()
        reader.start()
        try:
            out = _rest(self.stdout)
            reader.join()
            self.wait()
        finally:
            timer.cancel()
        if is_late.is_set():
            raise subprocess.TimeoutExpired(str(self.pid), timeout, out, "".join(errors))
        return out, "".join(errors)


class Forker:
    """The process that forks, and how to ask it."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._lock = threading.Lock()
        atexit.register(self.close)

    def start(
        self,
        module: str,
        words: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
    ) -> ForkedProcess:
        """Start a module with these arguments; `stdout` and `stderr` are as for `Popen`."""
        out, out_end = _stream(stdout, None)
        err, err_end = _stream(stderr, out_end)
        status, status_end = os.pipe()
        request = json.dumps([module, words, os.fspath(folder), dict(environ)]).encode()
        with self._lock:
            socket.send_fds(self._requests, [request], [out_end, err_end, status_end])
            answer = self._requests.recv(20)
        os.close(status_end)
        for end, other in ((out_end, out), (err_end, err)):
            if other is not None:  # a pipe made here
                os.close(end)
        return ForkedProcess(int(answer), status, out, err)

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


forker = cache(Forker)


def _stream(given: Any, stdout: int | None) -> tuple[int | None, int]:
    """The end of a stream to read from, if it is a pipe, and the end to write to."""
    if given == subprocess.PIPE:
        return os.pipe()
    if given == subprocess.STDOUT:
        assert stdout is not None
        return None, stdout
    return None, given if isinstance(given, int) else given.fileno()


def _text(descriptor: int | None) -> IO[str] | None:
    return None if descriptor is None else open(descriptor, encoding="utf-8")


def _rest(stream: IO[str] | None) -> str:
    return "" if stream is None else stream.read()


# In the process that forks


class _Forking:
    """Forks for each request; `run` returns in the children, with what they are to do."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._ended, self._wakeup = socket.socketpair()
        self._statuses: dict[int, int] = {}
        self._wakeup.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup.fileno())

    def run(self) -> list[Any] | None:
        """What a child is to do; None in the process that forks, when it is no longer needed."""
        while True:
            readable, _, _ = select.select([self._requests, self._ended], [], [])
            if self._ended in readable:
                self._ended.recv(1_000)
                self._report()
            if self._requests in readable:
                data, descriptors, _, _ = socket.recv_fds(self._requests, REQUEST_BYTES, 3)
                if not data:
                    return None
                if self._fork(descriptors):
                    request: list[Any] = json.loads(data)
                    return request

    def _fork(self, descriptors: list[int]) -> bool:
        out, err, status = descriptors
        pid = os.fork()
        if pid == 0:
            os.dup2(out, 1)
            os.dup2(err, 2)
        else:
            self._statuses[pid] = os.dup(status)
            self._requests.send(str(pid).encode())
        for each in descriptors:
            os.close(each)
        return pid == 0

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._requests, self._ended, self._wakeup):
            each.close()
        for status in self._statuses.values():
            os.close(status)

    def _report(self) -> None:
        for pid in list(self._statuses):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                descriptor = self._statuses.pop(pid)
                os.write(descriptor, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(descriptor)


def _as_a_program(module: str, words: list[str], folder: str, environ: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[0] = folder
    sys.argv[1:] = words
    sys.stdout = _output(1, "strict", by_line=os.isatty(1))
    sys.stderr = _output(2, "backslashreplace", by_line=True)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _output(descriptor: int, errors: str, *, by_line: bool) -> TextIO:
    raw = open(descriptor, "wb", closefd=False)  # noqa: SIM115  # for all of the program
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, line_buffering=by_line)


def _import_all() -> None:
    """What `serve` imports, some of it only when it runs."""
    from eventstore.cli.app import app

    with redirect_stdout(io.StringIO()), suppress(SystemExit):
        app(["serve", "--help"])
    for name in ("aiosqlite", "asyncpg", "projections", "uvloop"):
        importlib.import_module(name)
    gc.freeze()


def _main() -> None:
    _import_all()
    forking = _Forking(socket.socket(fileno=int(sys.argv[1])))
    request = forking.run()
    forking.close()
    if request is not None:
        _as_a_program(*request)


if __name__ == "__main__":
    _main()
