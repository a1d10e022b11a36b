"""`eventstore keys rewrap`: wrap the keys of data subjects with another master key."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.progress import Advance, events_bar
from eventstore.cli.output.terminal import Terminal, say, say_json
from eventstore.client.master_keys import KeyWrapping, MasterKeys
from eventstore.concurrency.chunks import chunked
from eventstore.errors import ConfigurationError
from eventstore.messages.text import counted
from eventstore.store.key_bucket import KeyBucket

_MAX_CONCURRENCY = 64


async def rewrap(
    session: ClientSession,
    master_key_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Master keys; can be given several times, and the first key of the first file "
            "wraps. EVENTSTORE_MASTER_KEY_FILE or EVENTSTORE_MASTER_KEY, which holds the keys "
            "themselves, does the same.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Wrap all keys with the first master key.

    These are the keys of all data subjects, wrapped or not. All master keys that wrap any of them
    must be known. To change the master key: give every process the new one after the old one; then
    before it; run this; then remove the old one. The previous form of each key is overwritten. This
    can be interrupted and repeated. Ends with status 0, or 2 for an error.
    """
    async with (
        session.connect(key_wrapping=_master_keys(master_key_file)) as client,
        session.recorded(client, "keys-rewrap"),
    ):
        bucket = KeyBucket(client, session.subjects)
        with events_bar(Terminal(stderr=True), "rewrapping") as advance:
            counts = await _rewrap_all(bucket, advance)
        current = bucket.wrapping().current
    if json:
        names = ("rewrapped", "unchanged", "forgotten")
        say_json({"master_key": current, **{name: counts[name] for name in names}})
        return
    keys = counted(counts["rewrapped"] + counts["unchanged"], "key")
    subjects = counted(counts["forgotten"], "subject")
    rewrapped = f"{counts['rewrapped']:,} of them rewrapped now"
    say(f"master key {current} wraps {keys}, {rewrapped}; forgotten: {subjects}")


def _master_keys(files: list[Path] | None) -> KeyWrapping | None:
    if not files:
        return None
    try:
        texts = [file.read_text(encoding="utf-8") for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--master-key-file: {error}") from error
    return MasterKeys.parse("\n".join(texts), ", ".join(map(str, files)))


async def _rewrap_all(bucket: KeyBucket, advance: Advance) -> Counter[str]:
    refs = list(dict.fromkeys([ref async for ref, _ in bucket.refs()]))
    counts: Counter[str] = Counter()
    for some in chunked(refs, _MAX_CONCURRENCY):
        counts.update(await asyncio.gather(*map(bucket.rewrap, some)))
        advance(counts.total(), len(refs))
    return counts
