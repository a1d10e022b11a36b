"""`make compat`: all of it, or `python -m tests.compat 3.13 lowest wheel` for some."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.compat.environments import CURRENT, ROOT, claimed, environment, lowest, pythons

LOWEST = "lowest"
WHEEL = "wheel"
EXTRAS = "embedded,uvloop,dev"
AT_ONCE = 2
"""How many environments are made and tested at a time, each with its share of the processors."""

ROOMS = ("client", "store", "commands", "projections", "service")
TESTS = ("tests/unit", *(f"tests/integration/{room}" for room in ROOMS))
"""Of all rooms without a server, and of those whose code depends most on Python and the drivers."""

SHORT = (
    *(f"tests/unit/{room}" for room in ("client", "concurrency", "service", "sync")),
    "tests/unit/test_decider.py",
    "tests/unit/messages/test_codec.py",
    "tests/unit/projections/test_database.py",
    "tests/unit/projections/test_rows.py",
    "tests/unit/projections/test_schema.py",
    "tests/unit/cli/test_terminal.py",
    "tests/integration/client/test_client.py",
    "tests/integration/client/test_connection.py",
    "tests/integration/store/test_append.py",
    "tests/integration/store/test_read.py",
    "tests/integration/commands/test_execute.py",
    "tests/integration/service/test_health.py",
)
"""What there is time for in each run of CI: building blocks, drivers, the connection, a service."""

QUICKSTART = """
import asyncio
from bank import Deposit, GetAccount, app

async def main() -> None:
    async with app.running() as bank:
        outcome = await bank.execute(Deposit(amount=50), "ann")
        print(await bank.ask(GetAccount(id="ann"), wait_for=outcome.position))

asyncio.run(main())
"""


class Result(NamedTuple):
    """Whether all has passed, and what was printed."""

    passed: bool
    output: str


def main(words: Sequence[str]) -> int:
    """Run what is wanted, or all; returns how many failed, as the exit status."""
    parser = ArgumentParser(prog="python -m tests.compat")
    parser.add_argument("--short", action="store_true", help="fewer tests, as in .ci/run")
    parser.add_argument("wanted", nargs="*", help=f"versions of Python, {LOWEST}, {WHEEL}")
    options = parser.parse_args(words)
    others = [version for version in claimed() if version != CURRENT]
    names = options.wanted or [*others, LOWEST, *([] if options.short else [WHEEL])]
    programs = {**pythons(), LOWEST: sys.executable, WHEEL: sys.executable}
    present = [name for name in names if name in programs]
    absent = [name for name in names if name not in programs]

    tests = SHORT if options.short else TESTS
    passed = _passed({name: programs[name] for name in present}, tests)
    failed = [name for name in present if name not in passed]
    print(f"passed: {', '.join(passed) or 'none'}")
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    if absent:
        print(f"NOT TESTED, as this machine has no such Python: {', '.join(absent)}")
    return len(failed) + sum(name in options.wanted for name in absent)


def _passed(programs: Mapping[str, str], tests: Sequence[str]) -> list[str]:
    """The names of those in which all has passed, by their programs; prints the output of each."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        wheel = _wheel(Path(folder))
        running = [pool.submit(_tested, *each, wheel, tests) for each in programs.items()]
        passed = []
        for name, result in zip(programs, map(Future.result, running), strict=True):
            print(f"== {name}\n{result.output}", flush=True)
            passed += [name] if result.passed else []
    return passed


def _tested(name: str, python: str, wheel: Path, tests: Sequence[str]) -> Result:
    try:
        results = list(_results(name, python, wheel, tests))
    except subprocess.CalledProcessError as error:
        return Result(False, f"{error}\n{error.stderr}")
    return Result(all(each.passed for each in results), "".join(each.output for each in results))


def _results(name: str, python: str, wheel: Path, tests: Sequence[str]) -> Iterator[Result]:
    """Of the quickstart, with nothing but the wheel and what it depends on; and of the tests."""
    if name != LOWEST:
        yield _quickstart(environment(f"empty-{name}", python, f"{wheel}[embedded]", is_kept=False))
    if name != WHEEL:
        limits = ("--constraint", str(lowest())) if name == LOWEST else ()
        yield _tests(environment(name, python, "--editable", f".[{EXTRAS}]", *limits), tests)


def _quickstart(python: Path) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "bank.py").write_bytes((ROOT / "examples" / "bank.py").read_bytes())
        (work / "try.py").write_text(QUICKSTART)
        result = _output(work, python, "-W", "error::DeprecationWarning", "try.py")
    return result._replace(passed=result.passed and "balance=50" in result.output)


def _tests(python: Path, tests: Sequence[str]) -> Result:
    share = (os.cpu_count() or 1) // AT_ONCE
    processes = ("--numprocesses", str(share), "--dist=worksteal") if share > 1 else ()
    cache = ("-o", f"cache_dir={python.parents[1] / 'cache'}")
    return _output(ROOT, python, "-m", "pytest", "--quiet", *tests, *processes, *cache)


def _output(folder: Path, *command: object) -> Result:
    ended = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Result(ended.returncode == 0, ended.stdout)


def _wheel(folder: Path) -> Path:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    command = [*build, "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
