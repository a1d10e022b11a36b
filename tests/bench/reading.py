"""Reading of two revisions in alternation: `python -m tests.bench.reading [REVISION]`.

Both read the same log on one server, each in a process of its own, in short slices in turns; so
does the other revision's connection with nothing but header dicts (raw). CPU is that of the reading
process, in microseconds an event, or a load of ten events. Without a revision, only raw is beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

from eventstore import NO_STREAM, Append, EventStore, connect, declare, load_settings, nix, topology
from eventstore.messages.envelope import Identity
from eventstore.server.embedded import EmbeddedServer
from tests.bench.report import Limit, Measurement, Quartiles, collected
from tests.bench.size import sized
from tests.bench.store import event

ROOT = Path(__file__).parents[2]
SIDE = Path(__file__).with_name("reading_side.py")
AGGREGATES = sized(2_000, 500)
EACH = 10
SLICES = sized(8, 3)
KINDS = {"pages": "raw", "read_all": "raw", "load": "raw_load", "verify": "raw", "export": "raw"}
"""What is measured, and what raw does beside it."""

NAMES = {
    "pages": "read pages",
    "read_all": "read_all",
    "load": "load 10 events",
    "verify": "verify",
    "export": "export",
}


class Slice(NamedTuple):
    """Items a second, and microseconds of CPU an item."""

    rate: float
    cpu: float


class Side:
    """A process that reads with the code of one revision."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, kind: str) -> Slice:
        """Run one slice."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([kind, AGGREGATES]).encode() + b"\n")
        items, seconds, cpu = await self.answer()
        return Slice(items / seconds, cpu / items * 1e6)

    async def answer(self) -> list[float]:
        """The next line of the process."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit("a process of the comparison ended")
        found: list[float] = json.loads(line)
        return found


@asynccontextmanager
async def side(tree: Path, url: str) -> AsyncIterator[Side]:
    """A revision whose files are below `tree`."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(SIDE), url),
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
    try:
        reader = Side(process)
        await reader.answer()
        yield reader
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextmanager
def checked_out(revision: str | None) -> Iterator[Path]:
    """The files of a revision of this repository, in a directory of their own."""
    if revision is None:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "files.tar")
        git = ["git", "archive", "--output", str(archive), revision]
        subprocess.run(git, cwd=ROOT, check=True)
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="data")
        yield Path(directory)


async def fill(url: str) -> None:
    """Append aggregates of ten events: half of them in batches, half as commands append."""
    codec = nix.domain().codec
    settings = load_settings(nats_url=url, environ={})
    async with connect(settings) as client, EventStore(client, codec) as store:
        await declare(client, topology(codec.subjects, settings.streams))
        numbers = iter(range(AGGREGATES))

        async def one_after_another() -> None:
            for number in numbers:
                await (_in_one if number % 2 else _one_by_one)(store, f"f{number}")

        await asyncio.gather(*(one_after_another() for _ in range(32)))


async def _in_one(store: EventStore, aggregate_id: str) -> None:
    events = [event(number) for number in range(EACH)]
    await store.append("flake", aggregate_id, events, expected=NO_STREAM)


async def _one_by_one(store: EventStore, aggregate_id: str) -> None:
    for number in range(EACH):
        append = Append(
            aggregate="flake",
            aggregate_id=aggregate_id,
            events=[event(number)],
            expected=number,
            cause=Identity.root(),
            actor="somebody",
            command_digest="0123456789abcdef",
            known_new=True,
        )
        await store.append_all(append)


def report(
    kind: str, revision: str, own: list[Slice], other: list[Slice], raw: list[Slice]
) -> None:
    """Print a line for each side: medians of the slices, and their ratios with the quartiles."""
    unit = "loads" if KINDS[kind] == "raw_load" else "events"
    print(f"{NAMES[kind]}, {len(own)} slices")
    for name, slices in (("here", own), (revision[:8], other), ("bare", raw)):
        rate, cpu = (median(values) for values in zip(*slices, strict=True))
        line = f"  {name:8} {rate:9,.0f} {unit}/s  CPU {cpu:6.1f} us each"
        if slices is not own:
            pairs = list(zip(own, slices, strict=True))
            rates = Quartiles.of([here.rate / beside.rate for here, beside in pairs])
            costs = Quartiles.of([here.cpu / beside.cpu for here, beside in pairs])
            line += f"; here {rates} of its rate, {costs} of its CPU"
        print(line, flush=True)


async def alternated(
    revision: str | None = None, kinds: tuple[str, ...] = tuple(KINDS), slices: int = SLICES
) -> AsyncIterator[tuple[str, tuple[list[Slice], list[Slice], list[Slice]]]]:
    """The slices of each kind: of these files, of a revision (or these files again), and of raw."""
    async with AsyncExitStack() as stack:
        tree = stack.enter_context(checked_out(revision))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(EmbeddedServer(directory))
        await fill(server.url)
        own = await stack.enter_async_context(side(ROOT, server.url))
        other = await stack.enter_async_context(side(tree, server.url))
        for kind in kinds:
            turns: tuple[list[Slice], list[Slice], list[Slice]] = [], [], []
            order = [(own, kind), (other, kind), (other, KINDS[kind])]
            for number in range(slices):
                for index in (0, 1, 2) if number % 2 else (2, 1, 0):
                    each, what = order[index]
                    turns[index].append(await each.run(what))
            yield kind, turns


async def compare(revision: str | None, kinds: tuple[str, ...], slices: int) -> None:
    """Print the comparison with a revision, by default with these files themselves."""
    async for kind, turns in alternated(revision, kinds, slices):
        report(kind, revision or "the same", *turns)


async def measure() -> AsyncIterator[Measurement]:
    """Each kind beside raw only."""
    async for kind, (own, _, raw) in alternated():
        loads = KINDS[kind] == "raw_load"
        ratios = [here.rate / beside.rate for here, beside in zip(own, raw, strict=True)]
        yield Measurement(
            name=f"{NAMES[kind]}, a process of its own",
            unit="loads" if loads else "events",
            rate=median(each.rate for each in own),
            limit=Limit(
                "bare direct get" if loads else "bare reading", median(r.rate for r in raw)
            ),
            ratio=Quartiles.of(ratios),
            cpu={"reader": median(each.cpu for each in own)},
        )


def main() -> list[Measurement]:
    """Run the benchmark beside raw only."""
    return collected(measure())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", nargs="?")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=tuple(KINDS))
    parser.add_argument("--slices", type=int, default=SLICES)
    given = parser.parse_args()
    asyncio.run(compare(given.revision, tuple(given.kinds), given.slices))
