"""`eventstore restore`: restore a backup where nothing is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.application.server import opened_server
from eventstore.backup import check_backup
from eventstore.backup import restore as restore_backup
from eventstore.cli.audit.verify import print_verification, verify_log
from eventstore.cli.commands.backup import (
    WithoutReadModel,
    continuable,
    print_copied,
    read_model_file,
)
from eventstore.cli.commands.export import Continue
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.progress import bytes_bar
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
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
        repeated = f"restore {folder}"
        with continuable("checking", "restored", repeated, step="restoring") as progress:
            async with session.connect() as client:
                done = await restore_backup(
                    client,
                    session.subjects,
                    folder,
                    replicas=settings.streams.replicas,
                    read_model=path,
                    resume=resume,
                    progress=progress,
                )
        how = f"restored as of {done.began} in {time.monotonic() - began:.1f} s"
        print_copied(terminal, done, how)
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
