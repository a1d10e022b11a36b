"""`eventstore audit anchor`: a document that proves the history later."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.audit import Anchor
from eventstore.audit.anchor import public_key
from eventstore.cli.audit.verify import print_verification, verify_log
from eventstore.cli.options import ClientSession
from eventstore.cli.output.terminal import Terminal, say
from eventstore.config.checks import read_file
from eventstore.messages.envelope import utc_now


async def anchor(
    session: ClientSession,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEYFILE", help="Sign it with the nkey whose seed is in this file."),
    ] = None,
) -> None:
    """Print a document that proves the history later.

    The log is verified first. Give the document to an outsider, who can have it compared with the
    log later: `audit verify --anchor FILE`. A log with findings gets none (status 1). Ends with
    status 2 for an error.
    """
    terminal = Terminal(stderr=True)
    seed = None if sign is None else read_file(sign)
    if seed is not None:
        terminal.print_line(f"to be signed by {public_key(seed)}")
    found = await verify_log(session)
    if found.summary.findings:
        print_verification(terminal, found)
        raise typer.Exit(1)
    made = Anchor.of(session.codec, found.summary.fold, utc_now())
    document = made if seed is None else made.signed(seed)
    say(document.to_json().decode().rstrip("\n"))
