"""`eventstore config unset`: unset a key."""

from __future__ import annotations

from eventstore.cli.config.set_ import Key
from eventstore.cli.options import ClientSession
from eventstore.cli.output.terminal import say
from eventstore.service.runtime_config import RuntimeConfig


async def unset(session: ClientSession, key: Key) -> None:
    """Unset a key.

    Each service then uses the value it was started with.
    """
    async with session.connect() as client:
        await RuntimeConfig(client, session.subjects).unset(key)
    say(f"{key} is not set")
