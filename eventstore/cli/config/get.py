"""`eventstore config get`: print what is configured."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.messages.text import printable
from eventstore.service.runtime_config import KEYS, RuntimeConfig, Value


async def get(
    session: ClientSession,
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.")
    ] = None,
    json: Json = False,
) -> None:
    """Print one key, or all keys.

    For one that is not set, each service uses the value it was started with.
    """
    async with session.connect() as client:
        config = RuntimeConfig(client, session.subjects)
        found = await config.get_all() if key is None else {key: await config.get(key)}
    if json:
        say_json(found if key is None else found[key])
        return
    for name, value in found.items():
        about = "" if key is not None else f"  ({KEYS[name].meaning})"
        say(printable(f"{name} = {value_text(value)}{about}"))


def value_text(value: Value | None) -> str:
    """A value as a person reads it."""
    if value is None:
        return "(not set)"
    return ", ".join(value) or "(none)" if isinstance(value, list) else str(value)
