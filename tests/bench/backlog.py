"""Backlog: commands queued while no worker runs, then processed in bounded memory."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import tempfile
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes
from eventstore.config import load_settings
from eventstore.jetstream.topology import declare, topology
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.bench.cpu import memory
from tests.bench.loop import run
from tests.bench.report import Measurement, collected
from tests.bench.size import sized

COMMANDS = sized(100_000, 5_000)
AGGREGATES = sized(5_000, 500)
IN_FLIGHT = 512
CONTENT = "x" * 200


def peak_memory() -> float:
    """This process's peak memory in MB."""
    return memory(os.getpid(), peak=True)


def work(url: str, results: Connection) -> None:
    """The worker process; it ends when the queue is empty."""
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
            while await _queued(client):  # noqa: ASYNC110  # the server does not notify
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


async def measure() -> AsyncIterator[Measurement]:
    """Queue all commands, and process them in another process."""
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        async with EmbeddedServer(Path(directory)) as server:
            async with _client(server.url) as client:
                streams = load_settings(environ={}).streams
                await declare(client, topology(nix.domain().codec.subjects, streams))
                rate = await _send_all(server.url)
                assert await _queued(client) == COMMANDS
                yield Measurement(name="queue commands", unit="commands", rate=rate)
            own, others = spawn.Pipe()
            process = spawn.Process(target=work, args=(server.url, others))
            process.start()
            before, after, seconds = await asyncio.to_thread(own.recv)
            await asyncio.to_thread(process.join, 30)
    yield Measurement(
        name=f"carry out {COMMANDS:,} queued commands",
        unit="commands",
        rate=COMMANDS / seconds,
        note=f"worker's peak memory {before:.0f} MB before, {after:.0f} MB after",
    )


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
