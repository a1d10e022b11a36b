"""`eventstore audit forget`: destroy the key of a data subject, and erase what is not encrypted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
import typer

from eventstore.cli.options import ClientSession, Json, Yes
from eventstore.cli.output.terminal import program, say, say_json
from eventstore.cli.session import Session
from eventstore.concurrency.event_loop import run
from eventstore.jetstream.vocabulary import bucket_stream
from eventstore.messages.encryption import DestroyedKey
from eventstore.messages.personal import ref_of
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import counted, printable
from eventstore.parking.erasure import ErasureReport
from eventstore.store.keyring import Keyring


def forget(
    session: ClientSession,
    subject: Annotated[
        str, typer.Argument(metavar="SUBJECT", help="The id of the person whose data they are.")
    ],
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Make the personal data of a subject permanently unreadable.

    Its key is destroyed. Its events stay, and their chains verify; the fields read as forgotten.
    Parked messages that name the subject are erased, and so are the texts of its commands'
    rejections and errors; what cannot be read is listed, and so are waiting timers that name it.
    Read models keep what they have until they are rebuilt. Ends with status 0, 1 if nothing of the
    subject is found or the answer was no, 2 for an error. As JSON, which needs --yes, it is one
    object: forgotten is the time, or null.
    """
    if json and not yes:
        raise typer.BadParameter("give --yes, too: nothing is asked then", param_hint="--json")
    if not subject:
        raise typer.BadParameter("it must not be empty", param_hint="SUBJECT")
    domain, shown = session.codec.domain, printable(subject)
    if not yes:
        say(f"All personal data of {shown} in {domain} will be permanently unreadable.")
        say("Parked messages that name it are erased, and cannot be retried.")
        if not typer.confirm("Continue?"):
            say("nothing was changed")
            raise typer.Exit(1)
    forgotten, erased = run(_forget(session, subject))
    is_found = forgotten is not None or bool(erased.parked or erased.outcomes)
    if json:
        time = None if forgotten is None else forgotten.time
        say_json({"subject": subject, "forgotten": time, **msgspec.to_builtins(erased)})
        raise typer.Exit(0 if is_found else 1)
    if forgotten is not None:
        say(f"forgotten: {shown}, at {forgotten.time}; the key is destroyed")
        say("The events stay, and their chains verify; personal fields in them read as forgotten.")
    elif not is_found:
        say(f"nothing was changed: {domain} has no personal data of {shown}")
    _say_all(_about_copies(shown, erased, session.subjects))
    if not is_found:
        raise typer.Exit(1)
    _say_all(_about_read_models(session))


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


async def _forget(session: Session, subject: str) -> tuple[DestroyedKey | None, ErasureReport]:
    reported: list[ErasureReport] = []
    target = ref_of(subject)  # as the key's: the record must not name who was forgotten
    async with session.connect() as client, session.recorded(client, "audit-forget", target):
        forgotten = await Keyring(client, session.subjects).forget(subject, reported.append)
    return forgotten, reported[0]


def _about_copies(subject: str, erased: ErasureReport, subjects: Subjects) -> Iterable[str]:
    if erased.parked:
        sequences = ", ".join(map(str, erased.parked))
        yield f"erased: the parked messages {sequences}"
    if erased.outcomes:
        yield f"erased: the texts of {counted(len(erased.outcomes), 'outcome')}"
    if erased.undeleted:
        stream = bucket_stream(subjects.outcome_bucket)
        yield f"{stream} is of an earlier release and allows no deletion: the server's files"
        yield f"have the bytes of {len(erased.undeleted):,} texts for a while."
    if erased.unread:
        yield f"These cannot be read, and may name {subject}: see `{program()} parked show`."
        yield from (f"  {printable(each)}" for each in erased.unread)
    if erased.waiting:
        pending = counted(erased.waiting, "command")
        yield f"pending in {subjects.command_stream}: {pending}; repeat this when they have"
        yield "outcomes, because some of them may be parked."
    if erased.timers:
        yield f"These timers wait, and name {subject}; look at each, and cancel it if need be:"
        yield from (f"  {program()} timer show {printable(each)}" for each in erased.timers)


def _about_read_models(session: Session) -> Iterable[str]:
    personal = session.codec.personal_fields
    names = [each.name for each in session.projections if any(map(personal, each.event_types))]
    if not names:
        yield "No read model of this program has personal data."
        return
    yield "These read models have its data until they are rebuilt:"
    yield from (f"  {program()} projection rebuild {name}" for name in names)
