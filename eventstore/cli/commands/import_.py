"""`eventstore import`: record all events of a file."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.cli.commands.export import Continue, print_interrupted
from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.messages.text import counted
from eventstore.transfer import ImportSummary, import_log


async def import_(
    session: ClientSession,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that export or copy wrote.")],
    resume: Continue = False,
    without_keys: Annotated[
        bool,
        typer.Option("--without-keys", help="Import even if keys of personal data are missing."),
    ] = False,
    foreign: Annotated[
        bool,
        typer.Option("--foreign", help="Also import messages that the store did not write."),
    ] = False,
    json: Json = False,
) -> None:
    """Record all events of a file in an empty log.

    They are recorded byte for byte. The file is checked first: its checksums, the events' subjects,
    envelopes and chains, and that they can be sent. Of foreign messages, headers that cannot be
    sent are left out and counted. Until the import is complete nobody else can write to the log,
    and no service starts on it. With --continue the log may contain the beginning of the file.
    Commands, outcomes, parked messages, configuration and the keys of personal data are not part of
    it. Ends with status 0, or 2 for an error.
    """
    began = time.monotonic()
    done = await _import(session, file, resume=resume, without_keys=without_keys, foreign=foreign)
    if json:
        say_json({"file": str(file), **msgspec.to_builtins(done)})
        return
    seconds = time.monotonic() - began
    terminal = Terminal()
    terminal.print_line(
        f"{counted(done.events - done.before, 'event')} imported from {file} in {seconds:.1f} s"
    )
    if done.before:
        terminal.print_line(f"  {done.before:,} were in the log before")
    if done.stripped:
        terminal.print_line(f"  without headers that cannot be sent: {done.stripped:,}")


async def _import(
    session: Session, file: Path, *, resume: bool, without_keys: bool, foreign: bool
) -> ImportSummary:
    terminal = Terminal(stderr=True)
    doing = "checking"
    try:
        with events_bar(terminal, "checking") as advance:

            def progress(what: str, done: int, total: int) -> None:
                nonlocal doing
                doing = what
                advance(done, total, what)

            async with session.connect() as client:
                return await import_log(
                    client,
                    session.subjects,
                    session.settings.streams,
                    file,
                    resume=resume,
                    without_keys=without_keys,
                    foreign=foreign,
                    progress=progress,
                )
    except asyncio.CancelledError:
        if doing != "checking":
            print_interrupted(terminal, "imported", f"import {file}")
        raise
