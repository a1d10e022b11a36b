"""`eventstore restore`: restore a backup where nothing is."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.application.server import opened_server
from eventstore.backup import RestoreSummary, check_backup
from eventstore.backup import restore as restore_backup
from eventstore.cli.audit.verify import print_verification, verify_log
from eventstore.cli.commands.backup import WithoutReadModel, read_model_file
from eventstore.cli.commands.export import Continue, print_interrupted
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.progress import bytes_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.errors import RestoreRefused
from eventstore.messages.text import counted


async def restore(
    session: ReadModelSession,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `backup` has made.")],
    check: Annotated[
        bool, typer.Option("--check", help="Only check the backup; needs no server.")
    ] = False,
    resume: Continue = False,
    without_read_model: WithoutReadModel = False,
    json: Json = False,
) -> None:
    """Restore a backup where nothing is.

    The backup is checked first: that it is complete, unchanged and of this domain. None of the
    domain's streams may exist, nor the read model. Streams get as many replicas as
    streams.replicas says. If no server is named, they get an embedded one's, with its data below
    --dir. No service starts on the log until all is restored; then the log is
    verified.

    It needs the user of the service. Ends with status 0, 1 if the verification found something, 2
    for an error.
    """
    if check:
        await _check(session, folder, json=json)
        return
    began = time.monotonic()
    path = None if without_read_model else read_model_file(session)
    terminal = Terminal(stderr=json)
    async with opened_server(session.settings, session.directory) as settings:
        session = session.with_settings(settings)
        done = await _restore(session, folder, path, resume=resume)
        terminal.print_line(
            f"{counted(done.events, 'event')}, and {done.messages - done.events:,} other messages, "
            f"restored as of {done.began} in {time.monotonic() - began:.1f} s"
        )
        if not done.read_model:
            terminal.print_line("  without read models: they are rebuilt from the log")
        verified = await verify_log(session)
    print_verification(terminal, verified)
    findings = verified.summary.findings
    if json:
        facts = {"directory": str(folder), **msgspec.to_builtins(done), "findings": findings}
        say_json(facts)
    raise typer.Exit(1 if findings else 0)


async def _check(session: Session, directory: Path, *, json: bool) -> None:
    with bytes_bar(Terminal(stderr=True), "checking") as advance:
        made = await check_backup(
            directory, session.subjects, lambda what, done, total: advance(done, total, what)
        )
    if json:
        say_json({"directory": str(directory), **msgspec.to_builtins(made)})
        return
    Terminal().print_line(
        f"{directory} is complete and unchanged: {counted(made.events, 'event')} of {made.domain}, "
        f"as of {made.began}, by nats-server {made.server} ({made.bytes:,} bytes)"
    )


async def _restore(
    session: Session, directory: Path, path: Path | None, *, resume: bool
) -> RestoreSummary:
    terminal = Terminal(stderr=True)
    changing = False
    try:
        with bytes_bar(terminal, "checking") as advance:

            def progress(what: str, done: int, total: int) -> None:
                nonlocal changing
                changing |= what.startswith("restoring")
                advance(done, total, what)

            async with session.connect() as client:
                return await restore_backup(
                    client,
                    session.subjects,
                    directory,
                    replicas=session.settings.streams.replicas,
                    read_model=path,
                    resume=resume,
                    progress=progress,
                )
    except (asyncio.CancelledError, Exception) as error:
        if changing and not isinstance(error, RestoreRefused):
            print_interrupted(terminal, "restored", f"restore {directory}")
        raise
