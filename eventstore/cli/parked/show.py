"""`eventstore parked show`: a parked message in full."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say
from eventstore.cli.session import Session
from eventstore.parking.messages import ParkedMessage, ParkedMessages, UnreadableMessage

ParkedSequence = Annotated[
    int, typer.Argument(metavar="SEQ", min=1, help="The number that list prints first.")
]


async def show(session: ClientSession, sequence: ParkedSequence, json: Json = False) -> None:
    """Print a parked message in full.

    That is the reason, the origin, the time, the number of attempts, and the original.
    """
    message = await find_parked(session, sequence)
    if json:
        say(parked_json(message))
    else:
        print_parked(Terminal(), message)


async def find_parked(session: Session, sequence: int) -> ParkedMessage | UnreadableMessage:
    """The parked message of a sequence; raises `NotParked`."""
    async with session.connect() as client:
        return await ParkedMessages(client, session.subjects).find(sequence)


def parked_json(message: ParkedMessage | UnreadableMessage) -> str:
    """All that is known of a parked message, as one JSON object on a line.

    The payload is text under "data" if it is UTF-8, and Base64 under "payload" in any case. For
    one that cannot be read, "problem" is the reason, and the rest is the message's own.
    """
    if isinstance(message, UnreadableMessage):
        own, payload = msgspec.to_builtins(message), message.payload
        del own["sequence"], own["earlier"]
    else:
        own, payload = msgspec.to_builtins(message.record), message.record.payload
    facts = {"parked": message.sequence, "kind": message.kind, **own}
    text = _text(payload)
    return msgspec.json.encode(facts if text is None else {**facts, "data": text}).decode()


def print_parked(terminal: Terminal, message: ParkedMessage | UnreadableMessage) -> None:
    """Print a parked message for people."""
    if isinstance(message, UnreadableMessage):
        terminal.print_line(message.problem)
        terminal.facts({"parked": message.sequence, "subject": message.subject})
        _print_original(terminal, message.headers, message.payload)
        return
    record = message.record
    stored_at = datetime.fromtimestamp(record.stored_at_ns / 1e9, UTC)
    terminal.print_line(f"{record.code}: {record.reason}")
    terminal.facts(
        {
            "parked": f"{message.sequence}, {record.parked_at}",
            "subject": record.subject,
            "command": record.command_id,
            "subscriber": record.subscriber,
            record.aggregate or "aggregate": record.aggregate_id,
            "sequence": f"{record.stream} {record.sequence}, "
            f"{stored_at.isoformat(timespec='milliseconds')}",
            "delivered": record.delivered,
            "attempts": record.attempts,
        },
    )
    _print_original(terminal, record.headers, record.payload)


def _print_original(terminal: Terminal, headers: Mapping[str, str], payload: bytes) -> None:
    terminal.print_line("headers")
    terminal.facts(headers)
    text = _text(payload)
    terminal.print_line(f"payload, {len(payload):,} bytes")
    terminal.print_line(f"  {payload!r}" if text is None else f"  {text}")


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
