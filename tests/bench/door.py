"""A whole `eventstore serve` as a process, and a client that knows only NATS and JSON."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import nats
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

from eventstore.concurrency.resource import Resource
from eventstore.server.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
LOG = "NIX_LOG"
START_SECONDS = 120.0
ANSWER_SECONDS = 60.0


class Service:
    """A service that runs: its process, that of its read side if it has one, and its database."""

    def __init__(self, pid: int, database: Path) -> None:
        self.pid = pid
        self.read_side = _child(pid)
        self.database = database

    async def until_caught_up(self, position: int) -> float:
        """Return when all read models reflect a position: the seconds that took."""
        began = time.perf_counter()
        while self.position() < position:  # noqa: ASYNC110  # another process's database
            await asyncio.sleep(0.01)
        return time.perf_counter() - began

    def position(self) -> int:
        """The position that all read models reflect."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            query = "SELECT min(position) FROM eventstore_projection"
            return int(connection.execute(query).fetchone()[0] or 0)


@asynccontextmanager
async def serving(
    server: EmbeddedServer, directory: Path, tree: Path = ROOT, *, processes: int = 1
) -> AsyncIterator[Service]:
    """Run `eventstore serve` of the files below `tree`, with everything that it has."""
    database = directory / "read.sqlite"
    several = {} if processes == 1 else {"EVENTSTORE_PROCESSES": str(processes)}
    own = {
        **several,
        "NATS_URL": str(server.url),
        "EVENTSTORE_DATABASE": str(database),
        "EVENTSTORE_OPERATIONS_METRICS_ADDRESS": "127.0.0.1:0",
        "PYTHONPATH": str(tree),
    }
    log = directory / "serve.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "eventstore", "serve"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=directory,
            env={**_environ(), **own},
        )
    try:
        await asyncio.wait_for(_until_ready(process, log), START_SECONDS)
        yield Service(process.pid, database)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


def _child(pid: int) -> int | None:
    """The process that a process has started; None if it has started none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(children[0]) if children else None


def _environ() -> dict[str, str]:
    """The environment without what would configure the service."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EVENTSTORE_", "NATS_")) or name == "NATS_SERVER_BIN"
    }


async def _until_ready(process: asyncio.subprocess.Process, log: Path) -> None:
    assert process.stdout is not None
    if not (await process.stdout.readline()).startswith(b"ready"):
        raise SystemExit(f"the service did not start:\n{await asyncio.to_thread(log.read_text)}")


class PlainClient(Resource):
    """Sends bare commands: JSON, the aggregate's id, and where the outcome goes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._inbox = ""
        self.nats = Nats()

    async def _enter(self, stack: AsyncExitStack) -> None:
        self.nats = await nats.connect(self._url)
        stack.push_async_callback(self.nats.close)
        self._inbox = self.nats.new_inbox()
        await self.nats.subscribe(f"{self._inbox}.*", cb=self._received)

    async def execute(self, subject: str, aggregate_id: str, payload: bytes) -> None:
        """Send a command and wait for its outcome, which must be success."""
        token = str(next(self._numbers))
        outcome = self._waiting[token] = asyncio.get_running_loop().create_future()
        await self.nats.publish(subject, payload, headers=self.headers(aggregate_id, token))
        answer = await asyncio.wait_for(outcome, ANSWER_SECONDS)
        if b'"success"' not in answer:
            raise SystemExit(f"{subject} {aggregate_id}: {answer.decode()}")

    def headers(self, aggregate_id: str, token: str) -> dict[str, str]:
        """Those of a command: its aggregate's id, and where its outcome goes."""
        return {"X-Aggregate-ID": aggregate_id, "X-Reply-To": f"{self._inbox}.{token}"}

    async def ask(self, subject: str, query: Mapping[str, object]) -> None:
        """Ask a query, which must be answered without an error."""
        answer = await self.nats.request(
            subject, json.dumps(query).encode(), timeout=ANSWER_SECONDS
        )
        if answer.headers and "Nats-Service-Error" in answer.headers:
            raise SystemExit(f"{subject}: {answer.data.decode()}")

    async def position(self) -> int:
        """The position of the log's last event."""
        info = await self.nats.request(f"$JS.API.STREAM.INFO.{LOG}")
        return int(json.loads(info.data)["state"]["last_seq"])

    async def _received(self, message: Msg) -> None:
        outcome = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if outcome is not None and not outcome.done():
            outcome.set_result(message.data)
