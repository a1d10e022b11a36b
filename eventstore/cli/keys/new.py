"""`eventstore keys new`: create a master key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.options import Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.client.master_keys import new_master_key
from eventstore.config.private_files import open_private
from eventstore.errors import ConfigurationError


def new(
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name; without one, it is generated.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A new file that only you can read.  [default: stdout]"),
    ] = None,
    json: Json = False,
) -> None:
    """Create a master key.

    It wraps the keys of personal data and is never in NATS. It is one line, NAME:KEY. Store it like
    a password: whoever has it and a copy of the key bucket can read the personal data, and without
    it nobody can. Several lines in one file are several master keys; the first wraps, and all
    unwrap. Ends with status 0, or 2 for an error.
    """
    line = new_master_key(name)
    own, _, key = line.partition(":")
    if output is None:
        if json:
            say_json({"name": own, "key": key})
        else:
            say(line)
        return
    try:
        with open(output, "x", encoding="utf-8", opener=open_private) as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise ConfigurationError(
            f"--output {output} cannot be created: {error.strerror}"
        ) from error
    if json:
        say_json({"name": own, "file": str(output)})
    else:
        say(f"master key {own} is in {output}")
