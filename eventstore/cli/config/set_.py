"""`eventstore config set`: set a key."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.config.get import value_text
from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.messages.text import printable
from eventstore.service.runtime_config import KEYS, PAUSED, RuntimeConfig, parse_value

Key = Annotated[str, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.")]


async def set_(
    session: ClientSession,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As text or as JSON.")],
    json: Json = False,
) -> None:
    """Set a key for all services of the domain.

    They apply it while they run. Projections that are to be paused must be the application's.
    """
    parsed = parse_value(key, value)
    if key == PAUSED and isinstance(parsed, list):
        from eventstore.cli.read_models import projections_named

        projections_named(session, parsed)
    target = f"{key} = {value}"
    async with session.connect() as client, session.recorded(client, "config-set", target):
        stored = await RuntimeConfig(client, session.subjects).set(key, value)
    if json:
        say_json({key: stored})
    else:
        say(printable(f"{key} = {value_text(stored)}"))
