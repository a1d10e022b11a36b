"""`eventstore audit forget`: destroy the key of a data subject, so that nobody reads its data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from eventstore import nix
from eventstore.cli.connecting import connected
from eventstore.cli.loop import run
from eventstore.cli.options import VAR, ConfigFile, Directory, NatsUrl, client_settings
from eventstore.cli.terminal import printable, program, say
from eventstore.config import Settings
from eventstore.keyring import Keyring
from eventstore.messages import Event
from eventstore.sealing import Forgotten
from eventstore.subjects import Subjects

__all__ = ["forget"]


def forget(
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="The id of whom the data are about.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Make all personal data of a subject unreadable for ever, by destroying its key.

    Its events stay, and their chains verify; the fields read as forgotten. Read models keep what
    they hold until they are rebuilt. Ends with status 0, 1 where there is no such subject or the
    answer was no, 2 for an error.
    """
    if not subject:
        raise typer.BadParameter("an empty one is nobody", param_hint="SUBJECT")
    settings = client_settings(nats_url, config, directory)
    domain, shown = settings.nats.subject_prefix, printable(subject)
    if not yes:
        say(f"All personal data of {shown} in {domain} will be unreadable, for ever.")
        if not typer.confirm("Go on?"):
            say("nothing was changed")
            raise typer.Exit(1)
    forgotten = run(_forget(settings, subject))
    if forgotten is None:
        say(f"nothing was changed: {domain} has no personal data of {shown}")
        raise typer.Exit(1)
    for line in _report(shown, forgotten, settings):
        say(line)


async def _forget(settings: Settings, subject: str) -> Forgotten | None:
    async with connected(settings) as client:
        return await Keyring(client, Subjects(settings.nats.subject_prefix)).forget(subject)


def _report(subject: str, forgotten: Forgotten, settings: Settings) -> Iterable[str]:
    yield f"forgotten: {subject}, at {forgotten.time}; the key is destroyed"
    yield "The events stay, and their chains verify; what is personal in them reads as forgotten."
    names = _concerned(settings)
    if not names:
        yield "No read model of this program takes personal data."
        return
    yield "These read models hold what they were told until they are rebuilt:"
    yield from (f"  {program()} projection rebuild {name}" for name in names)


def _concerned(settings: Settings) -> list[str]:
    # The read side takes long to import, and is needed last.
    from eventstore.cli.read_models import read_models

    codec = nix.domain(settings.nats.subject_prefix).codec

    def is_personal(event: type[Event]) -> bool:
        return bool(codec.personal_fields(event))

    return [each.name for each in read_models() if any(map(is_personal, each.event_types))]
