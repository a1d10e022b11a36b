"""Commands of two revisions in alternation: `python -m tests.bench.compare REVISION`.

Each revision has a client, a worker and a server as three processes. The two do short slices in
turns, so that what disturbs the machine for a while disturbs both; a ratio is the median of the
slices' ratios, and the spread its quartiles. CPU is what the kernel accounted to each process, in
microseconds a command, waiting included for nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from eventstore.server.embedded import EmbeddedServer
from tests.bench.report import Quartiles

ROOT = Path(__file__).parents[2]
SIDE = Path(__file__).with_name("compare_side.py")
KINDS = ("one", "several", "rejected", "new")
ROLES = ("client", "worker", "server")


class Slice(NamedTuple):
    """What one slice has shown: commands a second, milliseconds, microseconds of CPU a command."""

    rate: float
    p50: float
    p99: float
    cpu: dict[str, float]


class Side:
    """One revision: its client, worker and server."""

    def __init__(self, client: asyncio.subprocess.Process, pids: dict[str, int]) -> None:
        self._client = client
        self._pids = pids

    async def run(self, kind: str, count: int, *, rate: float = 0, in_flight: int = 64) -> Slice:
        """Execute `count` commands, `in_flight` at a time or `rate` a second."""
        before = self._cpu()
        request = {"kind": kind, "count": count, "rate": rate, "in_flight": in_flight}
        answer = await _asked(self._client, request)
        after = self._cpu()
        cuts = quantiles(answer["latencies"], n=100)
        cpu = {role: (after[role] - before[role]) / count / 1000 for role in ROLES}
        return Slice(count / answer["seconds"], cuts[49] * 1000, cuts[98] * 1000, cpu)

    def _cpu(self) -> dict[str, int]:
        """Nanoseconds on a CPU, by process."""
        return {role: _nanoseconds(pid) for role, pid in self._pids.items()}


def _nanoseconds(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


async def _asked(process: asyncio.subprocess.Process, request: object) -> Any:
    assert process.stdin is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    return await _answer(process)


async def _answer(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise SystemExit("a process of the comparison ended")
    return json.loads(line)


@asynccontextmanager
async def _process(tree: Path, role: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(SIDE), role, url),
        stdin=pipe,
        stdout=pipe,
        limit=2**26,
        env={**os.environ, "PYTHONPATH": str(tree)},
    )
    try:
        assert await _answer(process) == "ready"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def side(tree: Path) -> AsyncIterator[Side]:
    """A revision whose files are below `tree`."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = await stack.enter_async_context(EmbeddedServer(directory))
        worker = await stack.enter_async_context(_process(tree, "worker", server.url))
        client = await stack.enter_async_context(_process(tree, "client", server.url))
        assert server.pid is not None
        yield Side(client, {"client": client.pid, "worker": worker.pid, "server": server.pid})


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)  # noqa: S607


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """The files of a revision of this repository, in a directory of their own."""
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory, "files.tar")
        _git("archive", "--output", str(archive), revision)
        with tarfile.open(archive) as files:
            files.extractall(directory, filter="data")
        yield Path(directory)


class Turns(NamedTuple):
    """The slices of the own files and of the other revision, in pairs."""

    own: list[Slice]
    other: list[Slice]

    def ratios(self) -> list[float]:
        """Each slice's rate to its neighbour's."""
        return [one.rate / two.rate for one, two in zip(self.own, self.other, strict=True)]


async def in_turns(
    own: Side, other: Side, kind: str, count: int, slices: int, rate: float = 0
) -> Turns:
    """Run slices of both alternately; which comes first changes each time."""
    turns = Turns([], [])
    for number in range(slices):
        order = [(own, turns.own), (other, turns.other)]
        for each, found in order if number % 2 else order[::-1]:
            found.append(await each.run(kind, count, rate=rate))
    return turns


def _line(name: str, slices: list[Slice]) -> str:
    cpu = {role: median(each.cpu[role] for each in slices) for role in ROLES}
    parts = ", ".join(f"{role} {cpu[role]:.0f}" for role in ROLES)
    rate = median(each.rate for each in slices)
    p50, p99 = median(each.p50 for each in slices), median(each.p99 for each in slices)
    best = max(each.rate for each in slices)
    return (
        f"  {name:8} {rate:6,.0f} commands/s (best {best:6,.0f})  p50 {p50:5.1f}, "
        f"p99 {p99:5.1f} ms  CPU {sum(cpu.values()):4.0f} us each ({parts})"
    )


def report(title: str, turns: Turns, revision: str) -> None:
    """Print both sides, and their ratio with its quartiles."""
    ratio = Quartiles.of(turns.ratios())
    print(title)
    print(_line("here", turns.own))
    print(_line(revision[:8], turns.other))
    print(f"  ratio    {ratio} of its rate, {len(turns.own)} slices", flush=True)


async def compare(revision: str, kinds: list[str], count: int, slices: int, rate: float) -> None:
    """Print the comparison, for each kind at full speed and then at a third of the top rate."""
    with checked_out(revision) as tree:
        async with side(ROOT) as own, side(tree) as other:
            for each in (own, other):
                await each.run("one", 4_000)  # every aggregate is there, and cached
            for kind in kinds:
                turns = await in_turns(own, other, kind, count, slices)
                report(f"commands, a worker alone: {kind}, 64 in flight", turns, revision)
            pace = rate or median(each.rate for each in turns.own) / 3
            paced = await in_turns(own, other, kinds[0], count, max(2, slices // 2), pace)
            report(f"commands, a worker alone: {kinds[0]}, {pace:,.0f} a second", paced, revision)


def main() -> None:
    """Read the arguments, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["one"])
    parser.add_argument("--count", type=int, default=4_000, help="commands in a slice")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--rate", type=float, default=0, help="commands a second when paced")
    given = parser.parse_args()
    asyncio.run(compare(given.revision, given.kinds, given.count, given.slices, given.rate))


if __name__ == "__main__":
    main()
