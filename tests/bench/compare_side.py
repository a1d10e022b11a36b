"""One process of `tests.bench.compare`: a worker, or a client, of the revision on its path.

It is run as a file, with another revision's tree first on the path, and so uses only what every
revision has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import msgspec

from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes, StateCache
from eventstore.config import load_settings
from eventstore.decider import Decider, Domain
from eventstore.errors import Rejected
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.types import Command, Event
from eventstore.store.store import EventStore

AGGREGATES = 2_000


class Write(Command, subject="page.write", creates=True):
    """Becomes one event."""

    text: str


class Split(Command, subject="page.split"):
    """Becomes three events."""

    text: str


class Refuse(Command, subject="page.refuse"):
    """Is rejected."""


class Written(Event, subject="page.written"):
    text: str


class Page(msgspec.Struct, frozen=True):
    version: int = 0
    text: str = ""


page = Decider("page", initial=Page)


@page.decides
def write(page: Page, command: Write) -> Written:
    return Written(text=command.text)


@page.decides
def split(page: Page, command: Split) -> list[Written]:
    return [Written(text=command.text)] * 3


@page.decides
def refuse(page: Page, command: Refuse) -> None:
    raise Rejected("refused", "as always")


@page.evolves
def written(page: Page, event: Written) -> Page:
    return Page(page.version + 1, event.text)


def domain() -> Domain:
    """The domain of the comparison."""
    return Domain("bench", [page])


def client_of(url: str) -> Client:
    """A connection to the server of this side."""
    return connect(load_settings(nats_url=url, environ={}))


def said() -> Iterator[dict[str, Any]]:
    """What the parent says, a line each."""
    for line in sys.stdin:
        yield json.loads(line)


def say(answer: object) -> None:
    """Answer the parent."""
    print(json.dumps(answer), flush=True)


def _collect_garbage_as_a_service_does() -> None:
    """As the service of this revision does; older ones leave it to the interpreter."""
    for module in ("signals", "process"):  # where it is, and where it was
        with contextlib.suppress(ImportError, AttributeError):
            import_module(f"eventstore.application.{module}").collect_garbage_less_often()


async def work(url: str) -> None:
    """Work until the parent closes the pipe."""
    own = domain()
    async with client_of(url) as client, EventStore(client, own.codec) as store:
        await declare(client, topology(own.codec.subjects, load_settings(environ={}).streams))
        outcomes = Outcomes(client, own.codec.subjects)
        handler = CommandHandler(store, own, outcomes, states=StateCache())
        worker = CommandWorker(client, own.codec, handler)
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await worker.ready.wait()
            _collect_garbage_as_a_service_does()
            say("ready")
            await asyncio.to_thread(sys.stdin.read)
            worker.stop()


def command_of(kind: str, number: int) -> tuple[Command, str | None]:
    """The command of this number, and its aggregate."""
    own = f"p{number % AGGREGATES}"
    if kind == "new":
        return Write(text=str(number)), None
    if kind == "rejected":
        return Refuse(), own
    return (Split if kind == "several" else Write)(text=str(number)), own


class Load:
    """Executes commands, so many at a time, or one after another at a rate."""

    def __init__(self, commands: CommandClient) -> None:
        self._commands = commands
        self._next = 0
        self.latencies: list[float] = []

    async def one(self, kind: str) -> None:
        """Execute the next command."""
        self._next += 1
        command, aggregate_id = command_of(kind, self._next)
        began = time.perf_counter()
        outcome = await self._commands.execute(command, aggregate_id, timeout=60)
        self.latencies.append(time.perf_counter() - began)
        assert outcome.status == ("rejected" if kind == "rejected" else "success"), outcome

    async def closed(self, kind: str, count: int, in_flight: int) -> None:
        """Execute `count` commands, `in_flight` at a time."""
        left = iter(range(count))

        async def one_after_another() -> None:
            for _ in left:
                await self.one(kind)

        await asyncio.gather(*(one_after_another() for _ in range(in_flight)))

    async def paced(self, kind: str, count: int, rate: float) -> None:
        """Execute `count` commands, `rate` a second, however many are in flight."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                wait = began + number / rate - asyncio.get_running_loop().time()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(self.one(kind))


async def send(url: str) -> None:
    """Execute what the parent says."""
    async with client_of(url) as client, CommandClient(client, domain().codec) as commands:
        load = Load(commands)
        requests = said()
        say("ready")
        while (request := await asyncio.to_thread(next, requests, None)) is not None:
            load.latencies = []
            began = time.perf_counter()
            if request["rate"]:
                await load.paced(request["kind"], request["count"], request["rate"])
            else:
                await load.closed(request["kind"], request["count"], request["in_flight"])
            say({"seconds": time.perf_counter() - began, "latencies": load.latencies})


def main() -> None:
    """Be a worker or a client."""
    role, url = sys.argv[1:]
    factory = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work(url) if role == "worker" else send(url))


if __name__ == "__main__":
    main()
