"""Pictures of the command line in a terminal, for the documentation: `make pictures`.

Run as a module, it makes `docs/pictures/terminal-*.svg`, from real commands in a folder of its own.
"""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Where a picture would load its font from; one that is there will do."""
WIDTH = 100


def in_terminal(folder: Path, *words: str) -> str:
    """What a command prints in a terminal, with its colours."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "PATH": PATH}
    command = ["eventstore", *words]  # as it is typed, because some output shows that
    process = subprocess.Popen(command, cwd=folder, env=environ, stdout=theirs, stderr=theirs)
    os.close(theirs)
    printed = bytearray()
    with suppress(OSError):  # the terminal is closed at the end
        while part := os.read(ours, 65_536):
            printed += part
    process.wait()
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")


def draw(name: str, printed: dict[str, str]) -> None:
    """A picture of commands and what they print."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True)
    for command, text in printed.items():
        console.print(f"[bold green]$[/] eventstore {command}")
        console.print(Text.from_ansi(text.rstrip()))
        console.print()
    svg = FONT.sub("", console.export_svg(title="eventstore", theme=MONOKAI))
    (PICTURES / f"terminal-{name}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    """Make them all."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw("demo", {"demo": in_terminal(folder, "demo")})
        service = subprocess.Popen(
            ["eventstore", "serve"],  # noqa: S607  # found by PATH
            cwd=folder,
            env={**os.environ, "PATH": PATH},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert service.stdout is not None
            service.stdout.readline()
            looks = ("health", "projection list")
            draw("health", {each: in_terminal(folder, *each.split()) for each in looks})
            search = ("audit", "search", "--type", "FlakeCreated", "--limit", "1", "--json")
            (first,) = json.loads(in_terminal(folder, *search))["items"]
            event = first["id"][:8]
            draw("audit", {f"audit trace {event}": in_terminal(folder, "audit", "trace", event)})
        finally:
            service.terminate()
            service.wait()


if __name__ == "__main__":
    main()
