"""Virtual environments: of each Python on the machine, and with the lowest dependencies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv" / "compat"
CURRENT = "{}.{}".format(*sys.version_info)
DEVELOPERS = ("console-tests", "dev", "bench", "docs")
"""The extras for work on the library; the others are for its users."""

_MADE_OF = "made-of"
_SHOWN = "import sys; print('{}.{}'.format(*sys.version_info))"
_CLASSIFIER = re.compile(r"Programming Language :: Python :: (\d+\.\d+)")
_LOWEST = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^]]*\])?>=([0-9.]+)")


def claimed() -> list[str]:
    """The versions of Python that pyproject.toml says it works with."""
    matches = map(_CLASSIFIER.fullmatch, _project()["classifiers"])
    return [match[1] for match in matches if match]


def pythons() -> dict[str, str]:
    """Those on this machine, by version: on the path, or installed by pyenv."""
    versions = claimed()
    found: dict[str, str] = {}
    for program in _candidates(versions):
        version = _output(program, "-c", _SHOWN)
        if version in versions:
            found.setdefault(version, program)
    return found


def lowest() -> Path:
    """pip's constraints to the lowest versions that pyproject.toml allows of what users install."""
    extras = _project()["optional-dependencies"]
    theirs = (each for name, each in extras.items() if name not in DEVELOPERS)
    needed = [*_project()["dependencies"], *(line for lines in theirs for line in lines)]
    bounds = [f"{match[1]}=={match[2]}\n" for match in map(_LOWEST.match, needed) if match]
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    file = ENVIRONMENTS / "lowest.txt"
    file.write_text("".join(bounds), encoding="utf-8")
    return file


def environment(name: str, python: str, *requirements: str, is_kept: bool = True) -> Path:
    """The program `python` of a virtual environment with these requirements.

    One that was made of the same, under the same pyproject.toml, is kept if it may be. Raises
    `CalledProcessError` if they cannot be installed.
    """
    folder = ENVIRONMENTS / name
    own = folder / "bin" / "python"
    made_of = "\n".join((_output(python, "-VV"), *requirements, _pyproject()))
    stamp = folder / _MADE_OF
    if is_kept and stamp.exists() and stamp.read_text(encoding="utf-8") == made_of:
        return own
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--no-compile", *requirements]
    subprocess.run(command, check=True, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    stamp.write_text(made_of, encoding="utf-8")
    return own


@cache
def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads(_pyproject())["project"]
    return project


def _candidates(versions: list[str]) -> Iterator[str]:
    yield sys.executable
    for version in versions:
        if (found := shutil.which(f"python{version}")) is not None:
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob("versions/*/bin/python")))


def _output(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ended.stdout.strip()
