"""Which tests reach a line: a map that one run of the tests under coverage makes, and that is kept.

A test that the map does not know (it is newer) is taken for one that reaches all of the modules
that its file imports. Of a module that the map knows with another text, every line is reached by
the tests that reach any of it; a module or a line that no test is known to reach, by those whose
file imports the module.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from coverage import CoverageData

__all__ = ["Reach", "imported"]


class Reach(NamedTuple):
    """The seconds of each test, and for each file its text's digest and who reaches which line."""

    seconds: dict[str, float]
    digests: dict[str, str]
    lines: dict[str, dict[int, list[int]]]

    @classmethod
    def of_run(cls, tree: Path, data: Path, durations: Path) -> Reach:
        """What a run in `tree` has left: coverage with a context for each phase of each test."""
        seconds: dict[str, float] = json.loads(durations.read_text())
        numbers = {test: number for number, test in enumerate(seconds)}
        covered = CoverageData(str(data))
        covered.read()
        digests, lines = {}, {}
        for file in map(Path, covered.measured_files()):
            if file.is_relative_to(tree):
                name = str(file.relative_to(tree))
                digests[name] = digest(file)
                lines[name] = _by_test(covered.contexts_by_lineno(str(file)), numbers)
        return cls(seconds, digests, lines)

    @classmethod
    def load(cls, path: Path) -> Reach:
        """What `save` wrote."""
        content = json.loads(path.read_text())
        lines = {
            name: {int(line): tests for line, tests in of.items()}
            for name, of in content["lines"].items()
        }
        return cls(content["seconds"], content["digests"], lines)

    def save(self, path: Path) -> None:
        """Keep it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self._asdict()))

    def duration(self, test: str) -> float:
        """How many seconds a test took, with coverage."""
        return self.seconds.get(test, 1.0)

    def tests(self, tree: Path, name: str, lines: Sequence[int], known: Iterable[str]) -> list[str]:
        """Those of the `known` tests that may notice a change of these lines, quickest first."""
        reaching = self._reaching(
            name, lines, changed=self.digests.get(name) != digest(tree / name)
        )
        importing = _ImportCheck(tree, name)
        chosen = [
            test
            for test in known
            if test in reaching
            or ((not reaching or test not in self.seconds) and importing(test.partition("::")[0]))
        ]
        return sorted(chosen, key=lambda test: (self.duration(test), test))

    def _reaching(self, name: str, lines: Sequence[int], *, changed: bool) -> set[str]:
        of_file = self.lines.get(name, {})
        found = [of_file[line] for line in lines if line in of_file]
        if changed or (found and not any(found)):  # it runs when the module is imported
            found = list(of_file.values())
        tests = list(self.seconds)
        return {tests[number] for numbers in found for number in numbers}


def digest(file: Path) -> str:
    """What tells one text of a file from another."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def imported(source: str) -> set[str]:
    """The modules and names that a source imports, dotted."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return found


class _ImportCheck:
    """Whether a file of tests imports a module, or the package it is in."""

    def __init__(self, tree: Path, name: str) -> None:
        self._tree = tree
        module = name.removesuffix(".py").replace("/", ".")
        self._names = {module, module.rpartition(".")[0]} - {module.partition(".")[0]}
        self._known: dict[str, bool] = {}

    def __call__(self, file: str) -> bool:
        if file not in self._known:
            source = (self._tree / file).read_text()
            self._known[file] = bool(self._names & imported(source))
        return self._known[file]


def _by_test(
    contexts: Mapping[int, Iterable[str]], numbers: Mapping[str, int]
) -> dict[int, list[int]]:
    """The numbers of the tests on each line that has run; none where it was in no test.

    A context is a test's name, a bar, and a phase.
    """
    found = {}
    for line, names in contexts.items():
        tests = (name.rpartition("|")[0] for name in names)
        found[line] = sorted({numbers[test] for test in tests if test in numbers})
    return found
