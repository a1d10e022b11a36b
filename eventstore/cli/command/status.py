"""`eventstore command status`: the outcome of a command that was sent earlier."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.outcomes import EXIT_STATUS, print_outcome
from eventstore.cli.output.terminal import Terminal, say
from eventstore.commands import Outcomes
from eventstore.commands.status import UNKNOWN, status_json
from eventstore.messages.envelope import check_message_id

_UNKNOWN_STATUS = 3


async def status(
    session: ClientSession,
    command_id: Annotated[str, typer.Argument(metavar="ID", help="The command's id.")],
    json: Json = False,
) -> None:
    """Print the outcome of a command that was sent earlier.

    Ends with status 0 for success, 1 if it was rejected, 2 for an error, 3 if nothing is known
    (yet).
    """
    check_message_id(command_id)
    async with session.connect() as client:
        outcome = await Outcomes(client, session.subjects).get(command_id)
    if json:
        say(status_json(command_id, outcome).decode())
    elif outcome is None:
        say(f"unknown: {UNKNOWN}")
    else:
        print_outcome(Terminal(), outcome)
    raise typer.Exit(_UNKNOWN_STATUS if outcome is None else EXIT_STATUS[outcome.status])
