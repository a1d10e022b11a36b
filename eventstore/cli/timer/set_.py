"""`eventstore timer set`: set a timer for a command."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import say, say_json
from eventstore.cli.times import parse_delay
from eventstore.cli.typed import CommandPayload, CommandSubject, typed_command
from eventstore.commands import CommandClient


def _delay(text: str) -> timedelta:
    found = parse_delay(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a delay: write 90s, 15m, 2h, 3d or 1w")
    return found


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time: write 2026-05-04T12:30:00Z") from None
    if time.utcoffset() is None:
        raise typer.BadParameter(f"{text!r} needs a zone: write 2026-05-04T12:30:00Z")
    return time


async def set_(
    session: ClientSession,
    name: Annotated[str, typer.Argument(metavar="NAME", help="One timer has it; it is replaced.")],
    subject: CommandSubject,
    aggregate_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The aggregate's id.")
    ] = None,
    payload: CommandPayload = "{}",
    at: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=_time, help="Due at a time, such as 2026-05-04T12:30Z"),
    ] = None,
    after: Annotated[
        timedelta | None,
        typer.Option(metavar="DELAY", parser=_delay, help="Due after 90s, 15m, 2h, 3d or 1w."),
    ] = None,
    refuse_past: Annotated[
        bool, typer.Option("--refuse-past", help="Refuse a time that has passed.")
    ] = False,
    cron: Annotated[
        str | None,
        typer.Option(metavar="EXPRESSION", help="Due repeatedly, such as '0 3 * * *' or @daily."),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(metavar="ZONE", help="Of --cron, such as Europe/Berlin.  [default: UTC]"),
    ] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="On whose behalf it is set.")
    ] = None,
    json: Json = False,
) -> None:
    """Set a timer: the server queues a command when it is due.

    A time that has passed is due now.
    """
    codec = session.codec
    command = typed_command(codec, subject, payload)
    async with session.connect() as client, CommandClient(client, codec) as commands:
        scheduled = await commands.schedule(
            *(name, command, aggregate_id),
            at=at,
            after=after,
            cron=cron,
            time_zone=time_zone,
            past="refuse" if refuse_past else "fire",
            actor=actor,
        )
    if json:
        say_json(scheduled)
    else:
        due = cron if scheduled.at is None else scheduled.at.isoformat(timespec="milliseconds")
        say(f"set: {name}, due {due}")
