"""`eventstore nix import`: import lock files into a running service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.nix.lock_files import LockFileImport, read_files
from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.outcomes import EXIT_STATUS, print_executed
from eventstore.cli.output.terminal import Terminal, say
from eventstore.commands import CommandClient
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.api import log_end
from eventstore.nix import AddFlakeInput, RemoveFlakeInput


async def import_(
    session: ClientSession,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="flake.lock files.")],
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The flake's name, if it is not the file's name."),
    ] = None,
    json: Json = False,
) -> None:
    """Import lock files into a running service.

    Repeating it changes nothing. Of a lock file that has changed, new inputs are added, missing
    ones removed, and one whose url changed is removed and added.

    Ends with status 0 if every command succeeded, 1 if one was rejected, 2 for an error. With
    --json each line is the outcome of one command.
    """
    if name is not None and len(files) > 1:
        raise typer.BadParameter(
            f"{len(files)} files cannot have one name: leave it out", param_hint="--name"
        )
    terminal = Terminal(stderr=json)
    flakes = read_files(files, name)
    codec = session.codec
    async with session.connect() as client, CommandClient(client, codec) as commands:
        try:
            known = await log_end(client, codec.subjects)
        except (ClientError, StreamMissing):
            known = 0  # a user who may send commands need not be allowed to ask this
        imported = await LockFileImport(client, codec, commands).run(flakes, terminal)
    executed = [pair for each in imported for pair in each.executed]
    outcomes = [outcome for _, outcome in executed if outcome is not None]
    if json:
        for outcome in outcomes:
            say(outcome.to_json().decode())
    else:
        print_executed(terminal, executed, known)
    for each in imported:
        added, removed = each.names(AddFlakeInput), each.names(RemoveFlakeInput)
        terminal.print_line(
            f"{each.flake}: {len(added - removed)} added, {len(removed - added)} removed, "
            f"{len(added & removed)} changed, {len(each.unchanged)} unchanged"
        )
    statuses = [EXIT_STATUS[outcome.status] for outcome in outcomes]
    raise typer.Exit(max(statuses, default=0))
