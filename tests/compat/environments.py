"""Virtual environments: of each Python on the machine, and with the lowest dependencies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv" / "compat"
EXTRAS = "embedded,uvloop,dev"

_VERSIONS = ("3.11", "3.12", "3.13", "3.14")
_SHOWN = "import sys; print('{}.{}'.format(*sys.version_info))"
_LOWEST = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)")


def pythons() -> dict[str, str]:
    """The interpreters on this machine, by version: on the path, or installed by pyenv."""
    found: dict[str, str] = {}
    for program in _candidates():
        version = _output(program, "-c", _SHOWN)
        if version in _VERSIONS:
            found.setdefault(version, program)
    return dict(sorted(found.items()))


def lowest() -> list[str]:
    """Constraints for the lowest versions that pyproject.toml allows of what users install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    theirs = (each for name, each in extras.items() if name not in ("dev", "bench", "docs"))
    needed = [*project["dependencies"], *(line for lines in theirs for line in lines)]
    return [f"{match[1]}=={match[2]}" for match in map(_LOWEST.match, needed) if match]


def environment(name: str, python: str, *requirements: str) -> Path:
    """The program `python` of a new virtual environment with these requirements."""
    folder = ENVIRONMENTS / name
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    own = folder / "bin" / "python"
    pip = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements], check=True, cwd=ROOT)
    return own


def constraints(lines: Iterable[str]) -> Path:
    """A file of constraints for pip."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    file = ENVIRONMENTS / "lowest.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


def _candidates() -> Iterator[str]:
    yield sys.executable
    for version in _VERSIONS:
        if (found := shutil.which(f"python{version}")) is not None:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob("versions/*/bin/python")))


def _output(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ended.stdout.strip()
