"""Run the checker, and print a table of counts; status 1 if anything was found.

python -m tests.fault.checker --seed 7 --minutes 10 --servers 3
python -m tests.fault.checker --judge HISTORY
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.fault.checker.faults import KINDS
from tests.fault.checker.history import History
from tests.fault.checker.judge import judge
from tests.fault.checker.report import printed
from tests.fault.checker.run import Run
from tests.fault.checker.system import Shape
from tests.fault.checker.went_back import check_went_back


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault.checker", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeats the faults and commands of a run")
    parser.add_argument("--minutes", type=float, default=10.0, help="of faults; 10")
    parser.add_argument("--servers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--services", type=int, default=2, help="beyond one: on standby; 2")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=1, help="of a service")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="FAULT",
        choices=list(KINDS),
        default=list(KINDS),
        help="these kinds of faults, such as 'jump clock'",
    )
    parser.add_argument("--keep", type=Path, help="an empty directory for what a run leaves")
    parser.add_argument("--judge", type=Path, metavar="HISTORY", help="only judge an earlier run")
    parser.add_argument("--went-back", action="store_true", help="only a log that went back")
    return parser.parse_args()


def _run(options: argparse.Namespace, directory: Path) -> History:
    seed = options.seed if options.seed is not None else secrets.randbelow(1_000_000)
    print(f"seed {seed}, {options.servers} servers, {options.services} services, in {directory}")
    shape = Shape(options.servers, options.services, options.processes)
    began = time.monotonic()

    def report(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", flush=True)

    run = Run(directory, shape, seed, report=report)
    history = asyncio.run(run.under(run.chosen(options.minutes, options.only)))
    history.save(directory / "history.json")
    return history


def _went_back() -> int:
    with tempfile.TemporaryDirectory() as directory:
        findings = asyncio.run(check_went_back(Path(directory), print))
    print(f"{len(findings):10,}  changed on a log that went back")
    for finding in findings:
        print(f"{'':12}{finding}")
    return 1 if findings else 0


def main() -> int:
    """Run, or judge an earlier run."""
    options = _options()
    if options.went_back:
        return _went_back()
    with ExitStack() as stack:
        if options.judge:
            history = History.load(options.judge)
        else:
            directory = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            directory.mkdir(exist_ok=True)
            history = _run(options, directory.resolve())
    findings = judge(history)
    printed(history, findings)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
