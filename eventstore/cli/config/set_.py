"""`eventstore config set`: set a key."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.config.get import value_text
from eventstore.cli.options import ClientSession
from eventstore.cli.output.terminal import say
from eventstore.service.runtime_config import KEYS, RuntimeConfig
from eventstore.text import printable

Key = Annotated[str, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.")]


async def set_(
    session: ClientSession,
    key: Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As text or as JSON.")],
) -> None:
    """Set a key for all services of the domain.

    They apply it while they run.
    """
    async with session.connect() as client:
        stored = await RuntimeConfig(client, session.subjects).set(key, value)
    say(printable(f"{key} = {value_text(stored)}"))
