"""A run: writers on links that lose and delay what passes, and servers that die."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from eventstore.client.client import connect
from eventstore.config import StreamSettings
from eventstore.errors import ClientError, TopologyError
from tests.fault.appends.attempts import Attempt, attempts
from tests.fault.checker import raw
from tests.fault.checker.faults import KINDS, Injector
from tests.fault.checker.history import Message
from tests.fault.checker.load import settings
from tests.fault.checker.system import DOMAIN, ROOT, Shape, System
from tests.integration.ledger import declare_log, ledger

_OF_WRITERS = (
    *("lose acknowledgement", "lose answers", "delay requests", "break links", "cut links"),
    *("kill server", "restart server", "freeze server"),
    *("partition", "one-way partition", "move leaders"),
)
_DECLARE_SECONDS = 60.0


class AppendHistory(NamedTuple):
    """What a run leaves for the judge."""

    log: list[Message]
    attempts: list[Attempt]
    faults: list[str]


async def run(
    directory: Path,
    seed: int,
    seconds: float,
    *,
    servers: int = 1,
    writers: int = 3,
    scale: float = 0.3,
    report: Callable[[str], None] = lambda _: None,
) -> AppendHistory:
    """Have several processes append for so long, under faults."""
    shape = Shape(servers, services=0, small_disks=False, fake_time=False)
    faults: list[str] = []
    async with System(directory, shape) as system:
        await _declared(system)
        files = [directory / f"writer{number}.jsonl" for number in range(writers)]
        processes = [await _writer(system, seed, file) for file in files]
        try:
            for kind, injector in _chosen(system, seed, seconds, scale):
                await injector.pause(0.2, 1)
                detail = await KINDS[kind].inject(injector)
                faults.append(f"{kind}: {detail}")
                report(faults[-1])
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            ended = [await asyncio.wait_for(process.wait(), 60) for process in processes]
        assert ended == [0] * writers, f"writers ended with {ended}"
        client = await system.connect()
        try:
            log = await raw.Streams(client, DOMAIN).messages("LOG")
        finally:
            await client.close()
    return AppendHistory(log, [each for file in files for each in attempts(file)], faults)


def _chosen(
    system: System, seed: int, seconds: float, scale: float
) -> Iterator[tuple[str, Injector]]:
    injector = Injector(system, random.Random(f"{seed}/faults"), scale)  # noqa: S311
    possible = [kind for kind in injector.possible() if kind in _OF_WRITERS]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield injector.chance.choice(possible), injector


async def _declared(system: System) -> None:
    """Declare the log, as soon as the servers have a leader."""
    url = f"nats://127.0.0.1:{system.servers[0].port}"
    stream = StreamSettings(
        replicas=system.shape.servers, duplicate_window_ms=system.shape.duplicate_window_ms
    )
    async with connect(settings(url)) as client, asyncio.timeout(_DECLARE_SECONDS):
        while True:
            with suppress(ClientError, TopologyError):
                return await declare_log(client, ledger(DOMAIN), stream)
            await asyncio.sleep(0.2)


async def _writer(system: System, seed: int, file: Path) -> asyncio.subprocess.Process:
    urls = await system.urls(file.stem)
    with file.with_suffix(".log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fault.appends.writer"),
            *(str(seed), file.stem, str(file), urls),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    await process.stdout.readline()
    return process
