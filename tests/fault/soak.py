"""An hour of half the top rate under faults: memory and descriptors of each process stay flat.

    python -m tests.fault.soak --minutes 60 --rate 1500

First the top rate is measured, unless `--rate` says what to send. Then clients send half of it, and
each process is sampled. Faults are those that end no process: links, freezes, locks, full disks and
rebuilds. The cache of states is made small. What counts is the second half of the run, in which all
caches are full; status 1 if a service grows there, or something accepted is not done in the end, or
`eventstore audit verify` finds fault.
The memory of nats-server follows its limit (`GOMEMLIMIT`), and is only shown.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fault.checker.history import Call, entries
from tests.fault.checker.run import Run
from tests.fault.checker.system import Shape, System
from tests.processes import descriptors, proportional, resident

FLAT = 0.5
"""Megabytes a minute of the resident memory: a process that grows by less is flat."""
_DESCRIPTORS = 10
_SAMPLE_SECONDS = 5.0
_LANES = 32
_CLIENTS = 2
_KINDS = (
    *("break links", "cut links", "lose answers", "delay requests", "lose acknowledgement"),
    *("freeze service", "freeze server", "lock database", "fill database disk", "rebuild"),
)
_SHAPE = Shape(
    services=2, clients=_CLIENTS, fake_time=False, duplicate_window_ms=120_000, state_cache_mb=8
)


class Sample(NamedTuple):
    """A process at a moment."""

    minutes: float
    rss: int
    pss: int
    descriptors: int


class Samples:
    """The samples of all processes, by name and process id: a new process begins anew."""

    def __init__(self, system: System) -> None:
        self.taken: dict[str, list[Sample]] = {}
        self._system = system
        self._began = time.monotonic()

    async def take(self) -> None:
        """Sample until cancelled."""
        while True:
            for name, pid in self._processes():
                sample = Sample(self._minutes(), resident(pid), proportional(pid), descriptors(pid))
                if sample.rss:
                    self.taken.setdefault(f"{name} ({pid})", []).append(sample)
            await asyncio.sleep(_SAMPLE_SECONDS)

    def _minutes(self) -> float:
        return (time.monotonic() - self._began) / 60

    def _processes(self) -> Iterator[tuple[str, int]]:
        named = [(each.name, each.pid) for each in self._system.services]
        named += [(f"n{number}", each.pid) for number, each in enumerate(self._system.servers)]
        yield from ((name, pid) for name, pid in named if pid is not None)


def slope(samples: list[Sample]) -> float:
    """Megabytes a minute of the resident memory, by least squares."""
    count = len(samples)
    mean_x = sum(each.minutes for each in samples) / count
    mean_y = sum(each.rss for each in samples) / count
    spread = sum((each.minutes - mean_x) ** 2 for each in samples)
    rise = sum((each.minutes - mean_x) * (each.rss - mean_y) for each in samples)
    return rise / spread / (1 << 20) if spread else 0.0


def flatness(taken: dict[str, list[Sample]]) -> Iterator[tuple[str, bool]]:
    """A line for each process, and whether it is flat in the second half."""
    for name, samples in taken.items():
        late = samples[len(samples) // 2 :]
        grows = slope(late)
        more = late[-1].descriptors - late[0].descriptors
        is_flat = (grows < FLAT or name.startswith("n")) and more <= _DESCRIPTORS
        sizes = "  ".join(f"{each.rss >> 20:5} {each.pss >> 20:5}" for each in _shown(samples))
        line = f"{name:22} {sizes}  {grows:+6.2f} MB/min  {late[0].descriptors:4} {more:+4}"
        yield f"{line}  {'flat' if is_flat else 'GROWS'}", is_flat


def _shown(samples: list[Sample]) -> tuple[Sample, Sample, Sample]:
    return samples[0], samples[len(samples) // 2], samples[-1]


def _counted(files: list[Path]) -> int:
    """How many commands were acknowledged."""
    return sum(b'"outcome":{' in line for file in files for line in file.open("rb"))


async def top_rate() -> float:
    """Commands a second that are acknowledged without faults, as fast as they are taken."""
    with tempfile.TemporaryDirectory() as directory:
        run = Run(Path(directory), _SHAPE, 0, scale=4, lanes=_LANES, pause_ms=0)
        async with run.system:
            files = await run.load(["calm"])
            told = [each for file in files for each in entries(file) if isinstance(each, Call)]
    answered = [call.answered for call in told if call.outcome and call.answered]
    return len(answered) / (max(answered) - min(answered)) * 1e9


async def soak(directory: Path, minutes: float, rate: float, seed: int) -> bool:
    """Send at a rate for so long, under faults; prints what it sees, and whether all is well."""
    pause = _CLIENTS * _LANES / rate * 1_000
    run = Run(directory, _SHAPE, seed, lanes=_LANES, pause_ms=pause, report=_say)
    async with run.system:
        samples = Samples(run.system)
        sampling = asyncio.create_task(samples.take())
        files = await run.load(_faults(run, minutes))
        sampling.cancel()
        await run.rest()
        verify = await run.system.run("audit", "verify")
        verified = await verify.wait()
    lines = [*flatness(samples.taken)]
    print(f"{'process':22} {'RSS and PSS in MB: first':>25}, half, last   slope   descriptors")
    for line, _ in lines:
        print(line)
    print(f"{_counted(files):,} commands acknowledged, {len(run.history.faults)} faults")
    print(f"left to do: {run.history.unsettled or 'nothing'}; verify ended with {verified}")
    return all(is_flat for _, is_flat in lines) and not run.history.unsettled and verified == 0


def _faults(run: Run, minutes: float) -> Iterator[str]:
    """Calm and faults in turns."""
    for kind in run.chosen(minutes, _KINDS):
        yield "calm"
        yield kind


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main() -> int:
    """Measure, soak and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, help="commands a second, not half the top rate")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rate = options.rate or asyncio.run(top_rate()) / 2
    print(f"{rate:,.0f} commands a second for {options.minutes:g} minutes, seed {options.seed}")
    with tempfile.TemporaryDirectory() as directory:
        return 0 if asyncio.run(soak(Path(directory), options.minutes, rate, options.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
