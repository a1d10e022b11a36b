"""`eventstore parked retry`: retry parked messages."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.parking.messages import ParkedMessage, ParkedMessages


async def retry(
    session: ClientSession,
    sequence: Annotated[
        int | None,
        typer.Argument(metavar="SEQ", min=1, help="The number that list prints first."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Retry all, in order for each aggregate.")
    ] = False,
    out_of_order: Annotated[
        bool,
        typer.Option("--out-of-order", help="Retry it before older ones of its aggregate."),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.001, help="How long to wait for an event's subscriber."
        ),
    ] = 30.0,
    json: Json = False,
) -> None:
    """Retry parked messages.

    Commands are put back on their stream, with the same ids. An event goes to the subscriber that
    had failed, which must be running, and to no other; it stays parked unless that succeeds, within
    the time or later.

    Ends with status 0, 1 if some of --all stay parked, 2 for an error. As JSON it is one object:
    retried is a number, and left has the reasons by sequence.
    """
    if (sequence is None) != every:
        raise typer.BadParameter("name one message, or give --all", param_hint="SEQ")
    terminal = Terminal()
    target = "all" if every else sequence
    async with session.connect() as client, session.recorded(client, "parked-retry", target):
        parked = ParkedMessages(client, session.subjects)
        if sequence is not None:
            message = await parked.retry(sequence, out_of_order=out_of_order, timeout=timeout)
            if json:
                say_json({"retried": 1, "left": {}})
            else:
                terminal.print_line(_line(message))
            return
        result = await parked.retry_all(timeout=timeout)
    if json:
        say_json({"retried": result.retried, "left": result.left})
    else:
        terminal.print_line(f"{result.retried} put back or handled, {len(result.left)} left")
        for left, reason in result.left.items():
            terminal.print_line(f"  {left}: {reason}")
    raise typer.Exit(1 if result.left else 0)


def _line(message: ParkedMessage) -> str:
    record = message.record
    if record.subscriber is not None:
        return f"handled by {record.subscriber}: {record.subject} {record.aggregate_id or '-'}"
    return f"put back: {record.command_id} on {record.subject}"
