"""`eventstore keys`: master keys made, and the keys of data subjects wrapped by another one."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.cli.connecting import connected
from eventstore.cli.loop import run
from eventstore.cli.options import VAR, ConfigFile, Directory, Json, NatsUrl, client_settings
from eventstore.cli.progress import Moved, events_bar
from eventstore.cli.terminal import Terminal, say
from eventstore.client.master_keys import KeyWrapping, MasterKeys, new_master_key
from eventstore.config import PersonalSettings, Settings
from eventstore.errors import ConfigurationError
from eventstore.messages.subjects import Subjects
from eventstore.private_files import open_private
from eventstore.store.key_bucket import KeyBucket

__all__ = ["keys_app"]

_AT_ONCE = 64

keys_app = typer.Typer(help="Master keys of personal data.", no_args_is_help=True)

MasterKeyFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--master-key-file",
        metavar="FILE",
        help="Master keys; may be given several times, and the first key of the first file wraps. "
        "EVENTSTORE_MASTER_KEY_FILE or EVENTSTORE_MASTER_KEY, which holds the keys themselves, "
        "does the same.",
        show_default=False,
    ),
]


@keys_app.command("new", short_help="Make a master key.")
def new(
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What it is called; else it gets a name.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A new file for it, for you alone; else it is printed."),
    ] = None,
) -> None:
    """Make a master key, which wraps the keys of personal data and is never in NATS.

    It is one line, NAME:KEY. Keep it as you keep a password: who has it and a copy of the key
    bucket reads the personal data, and without it nobody does. Several lines in one file are
    several master keys; the first wraps, and all unwrap. Ends with status 0, or 2 for an error.
    """
    line = new_master_key(name)
    if output is None:
        say(line)
        return
    try:
        with open(output, "x", encoding="utf-8", opener=open_private) as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise ConfigurationError(f"--output {output} cannot be made: {error.strerror}") from error
    say(f"master key {line.partition(':')[0]} is in {output}")


@keys_app.command("status", short_help="Count keys by their master keys.")
def status(
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Count the keys of data subjects by the master key that each is wrapped by.

    Needs no master key. Ends with status 0, 1 where keys of an earlier release are not wrapped, 2
    for an error. With --json it is an object: wrapped (by master key), clear and forgotten.
    """
    found = run(_status(client_settings(nats_url, config, directory)))
    if json:
        say(msgspec.json.encode(found).decode())
    else:
        _print_status(found)
    raise typer.Exit(1 if found.clear else 0)


@keys_app.command("rewrap", short_help="Wrap all keys by the first master key.")
def rewrap(
    master_key_file: MasterKeyFiles = None,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Wrap the keys of all data subjects by the first master key, also those not yet wrapped.

    All master keys that wrap any of them must be known. To change the master key: give every
    process the new one after the old one; then before it; run this; then take the old one away.
    What a key was before is overwritten. It can be interrupted and done again. Ends with status
    0, or 2 for an error.
    """
    settings = client_settings(nats_url, config, directory)
    counts, current = run(_rewrap(settings, _master_keys(master_key_file)))
    say(
        f"master key {current} wraps {counts['rewrapped'] + counts['unchanged']:,} keys, of which "
        f"{counts['rewrapped']:,} were rewrapped; {counts['forgotten']:,} subjects are forgotten"
    )


class _Status(msgspec.Struct):
    wrapped: dict[str, int]
    clear: int
    forgotten: int


def _master_keys(files: list[Path] | None) -> KeyWrapping | None:
    if not files:
        return None
    try:
        texts = [file.read_text(encoding="utf-8") for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--master-key-file: {error}") from error
    return MasterKeys.parse("\n".join(texts), ", ".join(map(str, files)))


async def _status(settings: Settings) -> _Status:
    # None are needed, and those that are configured need not be right.
    settings = msgspec.structs.replace(settings, personal=PersonalSettings())
    async with connected(settings) as client:
        bucket = KeyBucket(client, Subjects(settings.nats.subject_prefix))
        last = {ref: entry async for ref, entry in bucket.refs()}
    keys = [entry for entry in last.values() if entry.is_key]
    return _Status(
        wrapped=dict(Counter(key.master or "" for key in keys if key.wrapped is not None)),
        clear=sum(key.wrapped is None for key in keys),
        forgotten=sum(entry.forgotten is not None for entry in last.values()),
    )


def _print_status(found: _Status) -> None:
    for master, count in sorted(found.wrapped.items()):
        say(f"{count:,} keys are wrapped by master key {master}")
    if found.clear:
        say(f"{found.clear:,} keys are not wrapped: run `keys rewrap`")
    say(f"{found.forgotten:,} subjects are forgotten")


async def _rewrap(settings: Settings, given: KeyWrapping | None) -> tuple[Counter[str], str]:
    async with connected(settings, key_wrapping=given) as client:
        bucket = KeyBucket(client, Subjects(settings.nats.subject_prefix))
        with events_bar(Terminal(stderr=True), "rewrapping") as moved:
            return await _rewrap_all(bucket, moved), bucket.wrapping().current


async def _rewrap_all(bucket: KeyBucket, moved: Moved) -> Counter[str]:
    refs = [ref async for ref, _ in bucket.refs()]
    counts: Counter[str] = Counter()
    unique = list(dict.fromkeys(refs))
    for start in range(0, len(unique), _AT_ONCE):
        some = unique[start : start + _AT_ONCE]
        counts.update(await asyncio.gather(*map(bucket.rewrap, some)))
        moved(start + len(some), len(unique))
    return counts
