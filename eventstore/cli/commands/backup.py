"""`eventstore backup`: copy all streams, buckets and read models to a directory."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.backup import BackupSummary, back_up
from eventstore.cli.commands.export import Continue, print_interrupted
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.progress import bytes_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.messages.text import counted
from eventstore.projections.database.database import Database

WithoutReadModel = Annotated[
    bool, typer.Option("--without-read-model", help="Leave read models to be rebuilt.")
]


async def backup(
    session: ReadModelSession,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The directory to make.")],
    resume: Continue = False,
    without_read_model: WithoutReadModel = False,
    json: Json = False,
) -> None:
    """Copy all streams, buckets and read models to a directory.

    Services may run meanwhile. The streams are copied as the server has them, with all sequences
    and times: the log, the feed and its subscribers' positions, queued and parked commands, timers,
    outcomes, snapshots, configuration, and the keys of personal data, which stay wrapped by the
    master key. That is not part of it: keep it elsewhere. Read models are, if they are in SQLite;
    those in PostgreSQL are backed up by its own means, or rebuilt.

    It needs the user of the service. `restore DIR --check` checks the result at any time. Ends with
    status 0, or 2 for an error.
    """
    began = time.monotonic()
    path = None if without_read_model else read_model_file(session)
    done = await _back_up(session, folder, path, resume=resume)
    if json:
        say_json({"directory": str(folder), **msgspec.to_builtins(done)})
        return
    terminal = Terminal()
    terminal.print_line(
        f"{counted(done.events, 'event')}, and {done.messages - done.events:,} other messages, "
        f"backed up to {folder} in {time.monotonic() - began:.1f} s ({done.bytes:,} bytes)"
    )
    if not done.read_model:
        terminal.print_line("  without read models: they are rebuilt from the log")


def read_model_file(session: Session) -> Path | None:
    """The file of the read models; None if they are in PostgreSQL."""
    return Database(session.settings.read_model.database).path


async def _back_up(
    session: Session, directory: Path, path: Path | None, *, resume: bool
) -> BackupSummary:
    terminal = Terminal(stderr=True)
    began = False
    try:
        with bytes_bar(terminal, "backing up") as advance:

            def progress(what: str, done: int, total: int) -> None:
                nonlocal began
                began = True
                advance(done, total, what)

            async with session.connect() as client:
                return await back_up(
                    client,
                    session.subjects,
                    directory,
                    read_model=path,
                    resume=resume,
                    progress=progress,
                )
    except (asyncio.CancelledError, Exception):
        if began:
            print_interrupted(terminal, "copied", f"backup {directory}")
        raise
