"""`eventstore schema check`: what a changed contract would break."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.applications import find_contract
from eventstore.cli.options import Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.contracts import Contract, breaking_changes
from eventstore.errors import ConfigurationError


def check(
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="What `eventstore schema json` printed.")
    ],
    json: Json = False,
) -> None:
    """Compare the application with an earlier contract.

    Named is what would break the reading of stored events, subscribers, senders of commands, or
    those who send queries. Upcasters count: an earlier version that one reads is not broken. No
    server is needed. Ends with status 0 if nothing is broken, 1 if something is, 2 for an error.
    """
    found = breaking_changes(_read(baseline), find_contract())
    for each in found:
        if json:
            say_json(each)
        else:
            say(str(each))
    if not found and not json:
        say(f"nothing breaks what relies on {baseline}")
    raise typer.Exit(1 if found else 0)


def _read(path: Path) -> Contract:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return Contract.from_json(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
