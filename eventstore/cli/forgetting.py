"""`eventstore audit forget`: destroy the key of a data subject, and erase what stands in clear."""

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
from eventstore.jetstream.vocabulary import bucket_stream
from eventstore.messages.encryption import Forgotten
from eventstore.messages.subjects import Subjects
from eventstore.messages.types import Event
from eventstore.parking.erasure import ErasureReport
from eventstore.store.keyring import Keyring

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

    Its events stay, and their chains verify; the fields read as forgotten. Parked messages that
    name the subject are erased, and so are the texts of its commands' rejections and errors; what
    cannot be read is listed. Read models keep what they hold until they are rebuilt. Ends with
    status 0, 1 where nothing of the subject is found or the answer was no, 2 for an error.
    """
    if not subject:
        raise typer.BadParameter("an empty one is nobody", param_hint="SUBJECT")
    settings = client_settings(nats_url, config, directory)
    domain, shown = settings.nats.subject_prefix, printable(subject)
    if not yes:
        say(f"All personal data of {shown} in {domain} will be unreadable, for ever.")
        say("Parked messages that name it are erased, and not to be retried.")
        if not typer.confirm("Go on?"):
            say("nothing was changed")
            raise typer.Exit(1)
    forgotten, erased = run(_forget(settings, subject))
    if forgotten is not None:
        _say_all(_about_key(shown, forgotten))
    elif not (erased.parked or erased.outcomes):
        say(f"nothing was changed: {domain} has no personal data of {shown}")
    _say_all(_about_copies(shown, erased, Subjects(domain)))
    if forgotten is None and not (erased.parked or erased.outcomes):
        raise typer.Exit(1)
    _say_all(_about_read_models(settings))


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


async def _forget(settings: Settings, subject: str) -> tuple[Forgotten | None, ErasureReport]:
    reported: list[ErasureReport] = []
    async with connected(settings) as client:
        keyring = Keyring(client, Subjects(settings.nats.subject_prefix))
        forgotten = await keyring.forget(subject, reported.append)
    return forgotten, reported[0]


def _about_key(subject: str, forgotten: Forgotten) -> Iterable[str]:
    yield f"forgotten: {subject}, at {forgotten.time}; the key is destroyed"
    yield "The events stay, and their chains verify; what is personal in them reads as forgotten."


def _about_copies(subject: str, erased: ErasureReport, subjects: Subjects) -> Iterable[str]:
    if erased.parked:
        sequences = ", ".join(map(str, erased.parked))
        yield f"erased: what was parked as {sequences}"
    if erased.outcomes:
        yield f"erased: the texts of {len(erased.outcomes):,} outcomes"
    if erased.undeleted:
        stream = bucket_stream(subjects.outcome_bucket)
        yield f"{stream} is of an earlier release and allows no deletion: of"
        yield f"{len(erased.undeleted):,} texts the server has the bytes in its files for a while."
    if erased.unread:
        yield f"This cannot be read, and may be of {subject}: see `{program()} parked show`."
        yield from (f"  {printable(each)}" for each in erased.unread)
    if erased.waiting:
        yield f"{erased.waiting:,} commands wait in {subjects.command_stream}: do it again when"
        yield "they have their outcomes, for what is parked of them."


def _about_read_models(settings: Settings) -> Iterable[str]:
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
