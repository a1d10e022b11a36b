"""Commands as they are typed: a subject and a JSON payload."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from eventstore.errors import InvalidSubject
from eventstore.messages.codec import Codec
from eventstore.messages.subjects import Subject
from eventstore.messages.types import Command

CommandSubject = Annotated[
    str, typer.Argument(metavar="SUBJECT", help="For example nix.cmd.flake.create")
]
CommandPayload = Annotated[str, typer.Option("--data", metavar="JSON", help="The payload.")]


def typed_command(codec: Codec, subject: str, payload: str) -> Command:
    """The command of a subject; raises `InvalidMessage`."""
    parsed = Subject.parse(subject)
    if parsed.domain != codec.domain or parsed.kind != "cmd":
        raise InvalidSubject(f"subject {subject!r} does not begin with {codec.domain}.cmd.")
    # The bytes as they were typed, even if they are no text.
    return codec.decode_command(parsed.aggregate, parsed.action, os.fsencode(payload))
