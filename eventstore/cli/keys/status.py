"""`eventstore keys status`: by which master keys the keys of data subjects are wrapped."""

from __future__ import annotations

from collections import Counter

import msgspec
import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.config import PersonalSettings
from eventstore.messages.text import counted
from eventstore.store.key_bucket import KeyBucket


async def status(session: ClientSession, json: Json = False) -> None:
    """Count the keys of data subjects by master key.

    Needs no master key. Ends with status 0, 1 if keys of an earlier release are not wrapped, 2 for
    an error. With --json it is an object: wrapped (by master key), clear and forgotten.
    """
    # No master keys are needed, and the configured ones may be wrong.
    settings = msgspec.structs.replace(session.settings, personal=PersonalSettings())
    async with session.connect(settings) as client:
        bucket = KeyBucket(client, session.subjects)
        last = {ref: entry async for ref, entry in bucket.refs()}
    keys = [entry for entry in last.values() if entry.is_key]
    wrapped = Counter(key.master or "" for key in keys if key.wrapped is not None)
    clear = sum(key.wrapped is None for key in keys)
    forgotten = sum(entry.forgotten is not None for entry in last.values())
    if json:
        say_json({"wrapped": wrapped, "clear": clear, "forgotten": forgotten})
    else:
        for master, count in sorted(wrapped.items()):
            say(f"master key {master} wraps {counted(count, 'key')}")
        if clear:
            say(f"not wrapped: {counted(clear, 'key')}; run `keys rewrap`")
        say(f"forgotten: {counted(forgotten, 'subject')}")
    raise typer.Exit(1 if clear else 0)
