"""`eventstore export`: write all events of the log to a file."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal, program, say_json
from eventstore.cli.session import Session
from eventstore.messages.text import counted
from eventstore.transfer import ExportSummary, export_log, export_to
from eventstore.transfer.file_writer import part_of

Continue = Annotated[bool, typer.Option("--continue", help="Continue an interrupted run.")]


async def export(
    session: ClientSession,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to create, or - for stdout.")
    ],
    resume: Continue = False,
    json: Json = False,
) -> None:
    """Write all events of the log to a file.

    The file has compressed lines of JSON, with checksums. It is the log as of the beginning of the
    export, including messages that the store did not write. Until it is complete, the file is
    called FILE.part. Commands, outcomes, parked messages, configuration and the keys of personal
    data are not part of it. Ends with status 0, or 2 for an error.
    """
    to_stdout = str(file) == "-"
    if to_stdout and resume:
        raise typer.BadParameter("a pipe cannot be continued: name a file", param_hint="--continue")
    if to_stdout and json:
        raise typer.BadParameter("stdout has the events already: name a file", param_hint="--json")
    terminal = Terminal(stderr=to_stdout)
    began = time.monotonic()
    done = await _export(session, None if to_stdout else file, resume=resume)
    seconds = time.monotonic() - began
    if json:
        say_json({"file": str(file), **msgspec.to_builtins(done)})
        return
    terminal.print_line(f"{counted(done.events, 'event')} written to {file} in {seconds:.1f} s")
    terminal.print_line(f"  up to position {done.position}, sum {done.sum}")


async def _export(session: Session, file: Path | None, *, resume: bool) -> ExportSummary:
    subjects, terminal = session.subjects, Terminal(stderr=True)
    try:
        with events_bar(terminal, "exporting") as advance:
            async with session.connect() as client:
                if file is None:
                    return await export_to(client, subjects, sys.stdout.buffer, advance)
                return await export_log(client, subjects, file, resume=resume, progress=advance)
    except asyncio.CancelledError:
        if file is not None and part_of(file).exists():
            print_interrupted(terminal, "written", f"export {file}")
        raise


def print_interrupted(terminal: Terminal, done: str, words: str) -> None:
    """Print what an interrupted transfer has left, and how to continue it."""
    terminal.print_line(f"what was {done} is kept: `{program()} {words} --continue` continues it")
