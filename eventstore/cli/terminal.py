"""Standard output: closed by its reader or not, in any encoding, on a terminal or not."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from eventstore.text import printable, printable_json, printable_lines

__all__ = ["Terminal", "never_fail_to_encode", "printable", "program", "say"]


class Terminal(Console):
    """Standard output or error for tables; texts are printed as they are, without markup."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, highlight=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts with what is unsafe in them as escapes; cells of tables are as given."""
        super().print(*map(_safe, objects), **options)

    def on_broken_pipe(self) -> None:
        """Go on without an audience: what is under way is to end as it would have."""
        _discard_output()


def _safe(shown: Any) -> Any:
    """The same text, or whatever else it is, without what commands a terminal."""
    if isinstance(shown, str):
        return printable_lines(shown)
    if isinstance(shown, Text) and (plain := printable_lines(shown.plain)) != shown.plain:
        return Text(plain, style=shown.style)
    return shown


def say(text: str, *, newline: bool = True) -> bool:
    """Print a line at once; False where nobody reads any more.

    The line is printable text, or JSON, which is made so. Without `newline` it is data of whole
    lines, which a file or a pipe gets as it is, and a terminal with what is unsafe as escapes.
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


def program() -> str:
    """How this program is called from the shell that called it."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m eventstore"
    found = shutil.which(called.name)
    is_on_path = found is not None and called.exists() and called.samefile(found)
    return called.name if is_on_path else str(called)


def never_fail_to_encode() -> None:
    """Have what the terminal's encoding lacks shown as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
