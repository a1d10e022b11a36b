"""`eventstore backup`: copy all streams, buckets and read models to a directory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.backup import BackupSummary, RestoreSummary, back_up
from eventstore.cli.commands.export import Continue, print_interrupted
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.progress import bytes_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.errors import RestoreRefused
from eventstore.messages.text import counted
from eventstore.projections.database.database import Database

OnProgress = Callable[[str, int, int], None]
"""Called with what is copied, and how many of how many bytes are."""

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
    with continuable("backing up", "copied", f"backup {folder}") as progress:
        async with session.connect() as client:
            done = await back_up(
                client,
                session.subjects,
                folder,
                read_model=path,
                resume=resume,
                progress=progress,
            )
    if json:
        say_json({"directory": str(folder), **msgspec.to_builtins(done)})
        return
    how = f"backed up to {folder} in {time.monotonic() - began:.1f} s ({done.bytes:,} bytes)"
    print_copied(Terminal(), done, how)


def read_model_file(session: Session) -> Path | None:
    """The file of the read models; None if they are in PostgreSQL."""
    return Database(session.settings.read_model.database).path


@contextmanager
def continuable(doing: str, did: str, command: str, step: str = "") -> Iterator[OnProgress]:
    """A progress bar; if it fails after a `step` has begun, how to continue is printed.

    `did` is what has happened to the parts that are complete by then, and `command` what to repeat
    to continue.
    """
    terminal = Terminal(stderr=True)
    began = False
    try:
        with bytes_bar(terminal, doing) as advance:

            def progress(what: str, done: int, total: int) -> None:
                nonlocal began
                began |= what.startswith(step)
                advance(done, total, what)

            yield progress
    except (asyncio.CancelledError, Exception) as error:
        if began and not isinstance(error, RestoreRefused):
            print_interrupted(terminal, did, command)
        raise


def print_copied(terminal: Terminal, copied: BackupSummary | RestoreSummary, how: str) -> None:
    """Print what a backup or a restore has copied, and `how`."""
    others = copied.messages - copied.events
    terminal.print_line(f"{counted(copied.events, 'event')}, and {others:,} other messages, {how}")
    if not copied.read_model:
        terminal.print_line("  without read models: they are rebuilt from the log")
