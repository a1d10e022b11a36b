"""`eventstore config unset`: unset a key."""

from __future__ import annotations

from eventstore.cli.config.set_ import Key
from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.service.runtime_config import RuntimeConfig


async def unset(session: ClientSession, key: Key, json: Json = False) -> None:
    """Unset a key.

    Each service then uses the value it was started with.
    """
    async with session.connect() as client, session.recorded(client, "config-unset", key):
        await RuntimeConfig(client, session.subjects).unset(key)
    if json:
        say_json({key: None})
    else:
        say(f"{key} is not set")
