"""`make compat`: all of it, or `python -m tests.compat 3.13 lowest wheel` for some."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compat.environments import EXTRAS, ROOT, constraints, environment, lowest, pythons

TESTS = (
    "tests/unit",
    *(f"tests/integration/{room}" for room in ("client", "store", "commands", "projections")),
)
QUICKSTART = """
import asyncio
from bank import Deposit, GetAccount, app

async def main() -> None:
    async with app.running() as bank:
        outcome = await bank.execute(Deposit(amount=50), "ann")
        print(await bank.ask(GetAccount(id="ann"), wait_for=outcome.position))

asyncio.run(main())
"""


def main(wanted: list[str]) -> int:
    """Run what is wanted, or all; returns how many failed, as the exit status."""
    found = pythons()
    current = "{}.{}".format(*sys.version_info)
    others = [version for version in found if version != current]
    failed = []
    for name in wanted or [*others, "lowest", "wheel"]:
        print(f"== {name}", flush=True)
        if name == "lowest":
            passed = _with_lowest(found[current])
        elif name == "wheel":
            passed = _wheel(found[current])
        elif name in found:
            passed = _tests(environment(name, found[name], "--editable", f".[{EXTRAS}]"))
        else:
            print(f"there is no Python {name} on this machine; found are {', '.join(found)}")
            passed = False
        failed += [] if passed else [name]
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return len(failed)


def _with_lowest(python: str) -> bool:
    file = constraints(lowest())
    return _tests(
        environment("lowest", python, "--editable", f".[{EXTRAS}]", "--constraint", str(file))
    )


def _tests(python: Path) -> bool:
    command = [str(python), "-m", "pytest", *TESTS, "-q", "--numprocesses=4", "--dist=worksteal"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def _wheel(python: str) -> bool:
    """Whether the quickstart runs in an environment with nothing but the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, "."]
        subprocess.run(pip, cwd=ROOT, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        own = environment("wheel", python, f"{wheel}[embedded]")
        work = Path(folder) / "work"
        work.mkdir()
        (work / "bank.py").write_bytes((ROOT / "examples" / "bank.py").read_bytes())
        (work / "try.py").write_text(QUICKSTART)
        command = [str(own), "-W", "error::DeprecationWarning", "try.py"]
        ended = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
        print(ended.stdout, ended.stderr)
        return ended.returncode == 0 and "balance=50" in ended.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
