"""A backlog: commands that pile up while no worker runs, worked off in bounded memory."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes
from eventstore.config import load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.bench.loop import run

COMMANDS = 100_000
AGGREGATES = 5_000
IN_FLIGHT = 512
CONTENT = "x" * 200


def peak_memory() -> float:
    """The most memory this process has had, in MB (Linux; `getrusage` counts its parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def work(url: str, results: Connection) -> None:
    """The worker's process: it ends when nothing is queued."""
    results.send(run(_work(url)))


async def _work(url: str) -> tuple[float, float, float]:
    """Peak memory before and after, and the seconds it took."""
    domain = nix.domain()
    async with _client(url) as client, EventStore(client, domain.codec) as store:
        outcomes = Outcomes(client, domain.codec.subjects)
        worker = CommandWorker(client, domain.codec, CommandHandler(store, domain, outcomes))
        before, began = peak_memory(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            while await _queued(client):  # noqa: ASYNC110  # the server tells only when asked
                await asyncio.sleep(0.1)
            worker.stop()
        return before, peak_memory(), time.perf_counter() - began


async def _queued(client: Client) -> int:
    info = await client.api(f"STREAM.INFO.{nix.domain().codec.subjects.command_stream}")
    return int(info["state"]["messages"])


def _client(url: str) -> Client:
    return connect(load_settings(nats_url=url, environ={}))


async def _send_all(url: str) -> float:
    """Commands a second."""
    numbers = iter(range(COMMANDS))
    async with _client(url) as client, CommandClient(client, nix.domain().codec) as commands:

        async def one_after_another() -> None:
            for number in numbers:
                aggregate_id = f"m{number % AGGREGATES}"
                if number < AGGREGATES:
                    await commands.send(nix.CreateModule(name="m", content=CONTENT), aggregate_id)
                else:
                    content = f"{number} {CONTENT}"
                    await commands.send(nix.UpdateModule(content=content), aggregate_id)

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        return COMMANDS / (time.perf_counter() - began)


async def measure() -> None:
    """Send all, then work them off in a process of its own, and print what that took."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            async with _client(server.url) as client:
                streams = load_settings(environ={}).streams
                await declare(client, topology(nix.domain().codec.subjects, streams))
                rate = await _send_all(server.url)
                print(f"queue {await _queued(client):,} commands: {rate:,.0f}/s")
            own, others = spawn.Pipe()
            process = spawn.Process(target=work, args=(server.url, others))
            process.start()
            before, after, seconds = await asyncio.to_thread(own.recv)
            await asyncio.to_thread(process.join, 30)
    print(
        f"work them off: {COMMANDS / seconds:,.0f}/s; worker's peak memory {before:.0f} MB "
        f"before, {after:.0f} MB after"
    )


def main() -> None:
    """Print two lines: how fast they are queued, and how they are worked off."""
    run(measure())


if __name__ == "__main__":
    main()
