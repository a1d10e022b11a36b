"""`make bench`: runs all benchmarks, and writes their report; `SMALL=1` is a quick look.

A full run writes `docs/performance.json`, the plot beside it, and the tables of the README and of
`docs/performance.md`; one with `SMALL=1`, or of some benchmarks only, writes `.bench/`.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import documents
from tests.bench.machine import Machine
from tests.bench.plot import plot
from tests.bench.report import Measurement, Report
from tests.bench.size import SMALL

ALL = [
    "service",
    "store",
    "reading",
    "peers",
    "scale",
    "commands",
    "backlog",
    "projections",
    "latency",
]
ALL += ["rebuild", "snapshots", "verify", "transfer"]
SOME = documents.ROOT / ".bench"


def revision() -> str:
    """The revision of the files, with a plus if they were changed since."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    found = subprocess.run(command, cwd=documents.ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def measured(benchmark: str) -> list[Measurement]:
    """Run one benchmark."""
    began = time.perf_counter()
    print(f"\n{benchmark}", flush=True)
    found: list[Measurement] = importlib.import_module(f"tests.bench.{benchmark}").main()
    print(f"  ({time.perf_counter() - began:.0f} s)", flush=True)
    return found


def run_all(benchmarks: list[str]) -> Report:
    """Run benchmarks one after another."""
    machine, began = Machine.this(), time.perf_counter()
    print(machine, flush=True)
    if machine.is_busy:
        print("others are at work: only ratios and CPU will count", flush=True)
    measurements = {benchmark: measured(benchmark) for benchmark in benchmarks}
    return Report(
        taken_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        small=SMALL,
        revision=revision(),
        seconds=round(time.perf_counter() - began),
        machine=machine,
        measurements=measurements,
    )


def keep(report: Report, directory: Path) -> None:
    """Write the report and its plot into a directory."""
    report.write(directory / "performance.json")
    (directory / "performance.svg").write_text(
        plot(report.of(*report.measurements)), encoding="utf-8"
    )


def main() -> None:
    """Read the arguments, run, print the table, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=", ".join(ALL))
    given = parser.parse_args().benchmarks
    if unknown := set(given) - set(ALL):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}: {', '.join(ALL)}")
    report = run_all(given or ALL)
    print(f"\n{report}")
    if SMALL or given:
        keep(report, SOME)
        print(f"\nwritten to {SOME}")
    else:
        documents.write(report)
        print("\nwritten to docs/performance.* and README.md")


if __name__ == "__main__":
    main()
