"""The tutorial, typed as it stands: its files, its commands, and what they print."""

from __future__ import annotations

import ast
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.command_line import BOUND, CommandLine, RunningProcess

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "docs" / "tutorial").glob("[0-9]-*.md"))
BLOCK = re.compile(r"```(python|toml|console)\n(.*?)```", re.DOTALL)
HEADER = re.compile(r"# ([\w/.]+)(?:, (continued|changed))?\n")

VARYING = (
    (r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID"),
    (r"\b[0-9a-f]{8}\b", "ID"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{3})?", "TIME"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\d\d?m \d\d?s", "DURATION"),
    (r"\bin \d+\.\d+ ?s\b", "in TIME"),
    (r"[+]?\d+(\.\d+)? ms", "MILLISECONDS"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"(live  +\d+  +\d+  +)[\d-]+", r"\1RATE"),
    (r"\d+ events of \d+ aggregates verified", "EVENTS verified"),
    (r"up \d+ s, \d+ MB", "up TIME, SIZE"),
    (r" {2,}", "  "),
)
"""What differs from run to run."""

LOOKING = tuple(
    f"eventstore {each}" for each in ("query", "audit", "process", "projection", "timer list")
)


class Typed(NamedTuple):
    """A command of a chapter, and the lines that it is said to print; "..." is for any more."""

    command: str
    expected: list[str]


def written(text: str, folder: Path) -> None:
    """Write a piece of code as its first line says."""
    header = HEADER.match(text)
    assert header is not None, text
    file, code = folder / header[1], text[header.end() :]
    file.parent.mkdir(exist_ok=True)
    if header[2] is None:
        file.write_text(code)
    elif header[2] == "continued":
        file.write_text(f"{file.read_text()}\n\n{code}")
    else:
        file.write_text(changed(file.read_text(), code))


def changed(before: str, code: str) -> str:
    """The code with each definition of the new code in the place of the one with its name."""
    new = {name_of(node): source(code, node) for node in ast.parse(code).body}
    nodes = ast.parse(before).body
    assert new.keys() <= {name_of(node) for node in nodes}, "it changes what is there"
    pieces = [new.get(name_of(node)) or source(before, node) for node in nodes]
    return "\n\n\n".join(pieces) + "\n"


def name_of(node: ast.stmt) -> str:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.FunctionDef(name=name):
            return name
        case ast.ClassDef(name=name):
            return name
        case ast.ImportFrom(module=module):
            return f"from {module}"
    return ast.unparse(node)


def source(code: str, node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min(node.lineno, *(each.lineno for each in decorators)) if decorators else node.lineno
    return "\n".join(code.splitlines()[first - 1 : node.end_lineno])


def typed(text: str) -> Iterator[Typed]:
    """The commands of a block, with their output."""
    for part in text.removeprefix("$ ").split("\n$ "):
        command, *expected = part.splitlines()
        yield Typed(command, expected)


def constant(text: str) -> str:
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text.rstrip()


def is_printed(found: str, expected: list[str]) -> bool:
    """Whether each expected line is there, in this order; others only where "..." stands."""
    pattern = "\n".join(
        r"(?:.*\n)*.*" if line == "..." else re.escape(constant(line)) for line in expected
    )
    printed = "\n".join(constant(line) for line in found.splitlines())
    return re.fullmatch(pattern, printed) is not None


class Reader:
    """Does what the chapters say, in one folder."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._cli = CommandLine(
            folder,
            PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin",
            PYTHONWARNINGS="",
            # In a checkout, pytest takes a module of the migrations for a plugin of its own.
            PYTEST_ADDOPTS="-W ignore::pytest.PytestAssertRewriteWarning",
        )
        self._service: RunningProcess | None = None

    def read(self, chapter: Path) -> None:
        for language, text in BLOCK.findall(chapter.read_text()):
            if language == "console":
                for command, expected in typed(text):
                    self._type(command, expected)
            else:
                written(text, self._folder)

    def _type(self, command: str, expected: list[str]) -> None:
        """Run a command; what only looks may look again, until what follows has happened."""
        end = time.monotonic() + (BOUND if command.startswith(LOOKING) else 0)
        while not is_printed(found := self._printed(command), expected):
            assert time.monotonic() < end, f"$ {command}\n{found}"

    def _printed(self, command: str) -> str:
        if command == "eventstore serve":
            self.stop()
            self._service = self._stack.enter_context(self._cli.start("serve"))
            return self._service.line()
        result = self._cli.typed(command)
        return result.err + result.out

    def stop(self) -> None:
        """Stop the service, if it runs."""
        if self._service is not None:
            self._service.stopped()
            self._service = None


@pytest.mark.timeout(300)
def test_each_chapter_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    index = (ROOT / "docs" / "tutorial" / "index.md").read_text()
    (project,) = (text for language, text in BLOCK.findall(index) if language == "toml")
    written(project, tmp_path)
    assert len(CHAPTERS) == 8
    with ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for chapter in CHAPTERS:
            reader.read(chapter)
        reader.stop()
