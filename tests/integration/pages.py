"""Pages of the documentation, typed as they stand: their files, their commands, what they print."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.integration.command_line import BOUND, CommandLine, ProcessResult, RunningProcess

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```(python|toml|console)\n(.*?)```", re.DOTALL)
EXPORT = re.compile(r"export (\w+)=(\S+)")
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
    (r"revision none to (?!0001)\w+", "revision none to REVISION"),
    (r"[\d,]+ events?, and [\d,]+ other messages", "EVENTS and others"),
    (r"\([\d,]+ bytes\)", "(BYTES)"),
    (r" {2,}", "  "),
)
"""What differs from run to run."""

LOOKING = tuple(
    f"eventstore {each}" for each in ("query", "audit", "process", "projection", "timer list")
)


LONG = 110.0
"""Seconds that a program, such as pytest, may take on a busy machine."""
YES = "y\n"
ENVIRON = {
    "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    "PYTHONWARNINGS": "",
    # In a checkout, pytest takes a module of the migrations for a plugin of its own.
    "PYTEST_ADDOPTS": "-W ignore::pytest.PytestAssertRewriteWarning",
}


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
    for part in text.replace("\\\n", " ").removeprefix("$ ").split("\n$ "):
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
    """Does what pages say, in one folder.

    `replaced` has what a reader would replace, such as an address, with its replacement. In
    `is_terse` pages, a command without output succeeds, whatever it prints.
    """

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        *,
        replaced: Mapping[str, str] | None = None,
        is_terse: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.cli = CommandLine(folder, **ENVIRON | dict(environ or {}))
        self._folder = folder
        self._stack = stack
        self._replaced = replaced or {}
        self._is_terse = is_terse
        self._service: RunningProcess | None = None

    def read(self, page: Path) -> None:
        """Do all that a page says."""
        self.do(page.read_text())

    def do(self, part: str) -> None:
        """Do what a part of a page says."""
        for language, text in BLOCK.findall(part):
            if language == "console":
                for command, expected in typed(textwrap.dedent(text)):
                    self._type(command, expected)
            elif HEADER.match(text) or not self._is_terse:
                written(text, self._folder)

    def stop(self) -> None:
        """Stop the service, if it runs."""
        if self._service is not None:
            self._service.stopped()
            self._service = None

    def _type(self, command: str, expected: list[str]) -> None:
        """Run a command; what only looks may look again, until what follows has happened."""
        for shown, own in self._replaced.items():
            command = command.replace(shown, own)
        if command.startswith("pip install "):
            return  # it is, with all extras
        if exported := EXPORT.match(command):
            self.cli.environ[exported[1]] = exported[2]
            return
        end = time.monotonic() + (BOUND if command.startswith(LOOKING) else 0)
        while not self._is_as_expected(result := self._run(command), expected):
            assert time.monotonic() < end, f"$ {command}\n{result.err}{result.out}"

    def _is_as_expected(self, result: ProcessResult, expected: list[str]) -> bool:
        if self._is_terse and not expected:
            return result.status == 0
        return is_printed(result.err + result.out, expected)

    def _run(self, command: str) -> ProcessResult:
        program, *words = shlex.split(command, comments=True)
        if (program, *words[:1]) == ("eventstore", "serve"):
            return self._serve(words)
        return self.cli.typed(command, stdin=YES, seconds=LONG)

    def _serve(self, words: list[str]) -> ProcessResult:
        """Start the service in place of the one that runs; the line that it is ready."""
        self.stop()
        # A second process starts as the first one did, which a fork of the tests' own cannot.
        started = self.cli.start(*words, forked="--processes" not in words)
        self._service = self._stack.enter_context(started)
        line = self._service.line()
        return ProcessResult(0, line, "") if line else self._service.ended()
