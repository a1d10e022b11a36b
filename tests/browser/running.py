"""A shop that runs in one process, and its console in another one, as people have them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from eventstore.application.server import server_directory
from eventstore.server.embedded import running_server
from tests.browser.shop import SHOP, fill

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
"""The system's browser."""

_BOUND = 60.0

T = TypeVar("T")


class RunningShop(Struct):
    """A console at `url`, of the shop on the server at `nats_url`."""

    url: str
    nats_url: str


def run_beside(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a thread: the browser's own loop runs in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@contextmanager
def running_shop(folder: Path) -> Iterator[RunningShop]:
    """The shop on a server of its own, and its console, whose visitor may do everything."""
    with started(folder, "serve", "--dir", "var"):
        nats_url = running_server(server_directory(folder / "var"))
        assert nats_url is not None
        with started(folder, *console_words(nats_url), *_EVERYTHING) as line:
            run_beside(fill(nats_url))
            yield RunningShop(line.removeprefix("console: ").rstrip("/"), nats_url)


_EVERYTHING = ("--operator", "*", "--personal", "*")


def console_words(nats_url: str) -> tuple[str, ...]:
    """The words of a command line that starts a console on a free port."""
    return "console", "--nats-url", nats_url, "--address", "127.0.0.1:0"


@contextmanager
def started(folder: Path, *words: object) -> Iterator[str]:
    """A subcommand for the shop, until the end of the block; yields the first line it prints."""
    path = os.pathsep.join([str(SHOP), *sys.path])
    environ = {"EVENTSTORE_APP": "shop.app:app", "PYTHONPATH": path, "PATH": os.environ["PATH"]}
    with subprocess.Popen(
        [sys.executable, "-m", "eventstore", *map(str, words)],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        timer = threading.Timer(_BOUND, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            line = process.stdout.readline().rstrip("\n")
            timer.cancel()
            assert line, f"eventstore {words[0]} has ended"
            yield line
        finally:
            timer.cancel()
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
