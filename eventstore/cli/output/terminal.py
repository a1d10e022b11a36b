"""Standard output and error: any encoding, a terminal or a pipe, with or without a reader."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.messages.text import printable, printable_json, printable_lines

T = TypeVar("T")

STATUS_STYLES = {"success": "green", "rejected": "yellow", "error": "red"}
"""How the status of a command's outcome is coloured."""

_LONG_HEX = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}[0-9a-f-]{16,}")


class Terminal(Console):
    """Standard output or error for texts and tables; texts are printed as they are, not markup."""

    def __init__(
        self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None
    ) -> None:
        super().__init__(
            stderr=stderr, file=file, width=width, markup=False, highlight=False, emoji=False
        )

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts with unsafe characters as escapes; cells of tables are printed as given."""
        super().print(*map(_safe, objects), **options)

    def print_line(self, text: str, style: str = "") -> None:
        """Print one line, however long it is; line breaks in the text become escapes."""
        self.print(Text(printable(text), style=style), soft_wrap=True)

    def facts(self, facts: Mapping[str, object], width: int = 10) -> None:
        """Print an indented line for each fact that is not None, its name padded to `width`."""
        for name, value in facts.items():
            if value is not None:
                self.print_line(f"  {name:{width}} {value}")

    def on_broken_pipe(self) -> None:
        """Continue without a reader: the work in progress is to end as it would have."""
        _discard_output()


def table(*columns: str) -> Table:
    """A table without lines, whose cells wrap if it is too wide."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _safe(shown: Any) -> Any:
    """The object; a text without the characters that command a terminal."""
    if isinstance(shown, str):
        return printable_lines(shown)
    if isinstance(shown, Text) and (plain := printable_lines(shown.plain)) != shown.plain:
        return Text(plain, style=shown.style)
    return shown


def say(text: str, *, newline: bool = True) -> bool:
    """Print a line and flush it; False if nobody reads any more.

    The line is printable text, or JSON, which is made printable. Without `newline` it is data that
    consists of complete lines: a file or a pipe gets it unchanged, and a terminal with unsafe
    characters as escapes.
    """
    if newline:
        text = printable_json(text)
    elif sys.stdout.isatty():
        text = printable_lines(text.replace("\r\n", "\n"))
    try:
        typer.echo(text, nl=newline)
    except BrokenPipeError:
        _discard_output()
        return False
    return True


def say_json(value: object) -> bool:
    """Print a value as JSON on one line; False if nobody reads any more."""
    return say(msgspec.json.encode(value).decode())


def print_all(
    found: Sequence[T], show: Callable[[Terminal, Sequence[T]], None], *, json: bool, none: str
) -> None:
    """Print a list: for programs an object a line; for people by `show`, or that there is none."""
    if json:
        for each in found:
            say_json(each)
    elif found:
        show(Terminal(), found)
    else:
        Terminal(stderr=True).print_line(none)


def brief(text: str) -> str:
    """The text with ids and revisions shortened to their first eight digits."""
    return _LONG_HEX.sub(lambda match: f"{match[0][:8]}…", text)


def program() -> str:
    """How this program is called from the shell that called it."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m eventstore"
    found = shutil.which(called.name)
    is_on_path = found is not None and called.exists() and called.samefile(found)
    return called.name if is_on_path else str(called)


def _discard_output() -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
