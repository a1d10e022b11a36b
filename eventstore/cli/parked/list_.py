"""`eventstore parked list`: the parked messages."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from eventstore.cli.options import AggregateId, AggregateName, ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say
from eventstore.cli.parked.show import parked_json
from eventstore.messages.text import printable
from eventstore.parking.messages import ParkedMessage, ParkedMessages, UnreadableMessage


async def list_(
    session: ClientSession,
    aggregate: AggregateName = None,
    aggregate_id: AggregateId = None,
    after: Annotated[
        int, typer.Option(metavar="SEQ", min=0, help="Only those after this number.")
    ] = 0,
    json: Json = False,
) -> None:
    """List parked messages, oldest first.

    One line each: number, time, subject, id, tries and reason.
    """
    line = parked_json if json else _line
    found = False
    async with session.connect() as client:
        parked = ParkedMessages(client, session.subjects)
        messages = parked.read(after, aggregate=aggregate, aggregate_id=aggregate_id)
        async with aclosing(messages):
            async for message in messages:
                found = True
                if not say(line(message)):
                    return
    if not found and not json:
        Terminal(stderr=True).print_line("nothing is parked")


def _line(message: ParkedMessage | UnreadableMessage) -> str:
    if isinstance(message, UnreadableMessage):
        return printable(f"{message.sequence:>6}  {message.subject}  {message.problem}")
    record = message.record
    own = record.aggregate_id or "-"
    return printable(
        f"{message.sequence:>6}  {record.parked_at[:19]}  {record.subject} {own}  "
        f"{record.delivered}x  {record.code}: {record.reason}"
    )
