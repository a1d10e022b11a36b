"""Files that a subcommand generates: printed, or written to a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.output.terminal import say
from eventstore.errors import ConfigurationError

Output = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write the files there, instead of printing them.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace existing files.")]


def deliver(files: Mapping[str, str], output: Path | None, *, force: bool) -> None:
    """Print the files, or write them to a folder; raises `ConfigurationError`, and writes none."""
    if output is None:
        _print(files)
    else:
        _write(files, output, force=force)


def _print(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        if not say(f"# ---- {name}\n{text}"):
            return


def _write(files: Mapping[str, str], directory: Path, *, force: bool) -> None:
    there = [name for name in files if (directory / name).exists()]
    if there and not force:
        raise ConfigurationError(
            f"{directory} has {', '.join(there)} already: name another directory, or give --force"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be written: {error.strerror}") from error
    say(f"written to {directory}: {', '.join(files)}")
