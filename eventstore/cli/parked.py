"""`eventstore parked`: look at what is parked, have it tried again, or throw it away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

import msgspec
from rich.console import Console

from eventstore.cli.connecting import connected
from eventstore.cli.terminal import Terminal, printable, say
from eventstore.config import Settings
from eventstore.messages.subjects import Subjects
from eventstore.parking.messages import (
    ParkedMessage,
    ParkedMessages,
    RetrySummary,
    UnreadableMessage,
)

__all__ = [
    "list_parked",
    "opened_parked",
    "parked_json",
    "print_parked",
    "print_retried",
    "retried_line",
]


@asynccontextmanager
async def opened_parked(settings: Settings) -> AsyncIterator[ParkedMessages]:
    """What is parked in the settings' domain, on a connection of its own."""
    async with connected(settings) as client:
        yield ParkedMessages(client, Subjects(settings.nats.subject_prefix))


async def list_parked(
    settings: Settings,
    aggregate: str | None,
    aggregate_id: str | None,
    *,
    after: int,
    json: bool,
) -> None:
    """Print a line for each message, oldest first, as long as somebody reads."""
    line = parked_json if json else _parked_line
    async with (
        opened_parked(settings) as parked,
        aclosing(parked.read(after, aggregate=aggregate, aggregate_id=aggregate_id)) as messages,
    ):
        found = False
        async for message in messages:
            found = True
            if not say(line(message)):
                return
    if not found and not json:
        Terminal(stderr=True).print("nothing is parked")


def parked_json(message: ParkedMessage | UnreadableMessage) -> str:
    """All that is known of a parked message, as one JSON object on a line.

    The payload is text under "data" where it is UTF-8, and Base64 under "payload" in any case. Of
    one that cannot be read, "problem" says why, and the rest is the message's own.
    """
    if isinstance(message, UnreadableMessage):
        own, payload = msgspec.to_builtins(message), message.payload
        del own["sequence"], own["earlier"]
    else:
        own, payload = msgspec.to_builtins(message.record), message.record.payload
    facts = {"parked": message.sequence, "kind": message.kind, **own}
    text = _text(payload)
    return msgspec.json.encode(facts if text is None else {**facts, "data": text}).decode()


def print_parked(console: Console, message: ParkedMessage | UnreadableMessage) -> None:
    """A parked message for people: why, where, when, how often, and the original."""
    if isinstance(message, UnreadableMessage):
        console.print(printable(message.problem), soft_wrap=True)
        _print_facts(console, {"parked": message.sequence, "subject": message.subject})
        _print_original(console, message.headers, message.payload)
        return
    record = message.record
    console.print(printable(f"{record.code}: {record.reason}"), soft_wrap=True)
    _print_facts(
        console,
        {
            "parked": f"{message.sequence}, {record.parked_at}",
            "subject": record.subject,
            "command": record.command_id,
            "subscriber": record.subscriber,
            record.aggregate or "aggregate": record.aggregate_id,
            "place": f"{record.stream} {record.sequence}, {_time(record.stored_at_ns)}",
            "delivered": record.delivered,
            "attempts": record.attempts,
        },
    )
    _print_original(console, record.headers, record.payload)


def retried_line(message: ParkedMessage) -> str:
    """What became of a message that was retried."""
    record = message.record
    if record.subscriber is not None:
        return f"handled by {record.subscriber}: {record.subject} {record.aggregate_id or '-'}"
    return f"put back: {record.command_id} on {record.subject}"


def print_retried(console: Console, result: RetrySummary) -> None:
    """How many were put back or handled, and which were not."""
    console.print(f"{result.retried} put back or handled, {len(result.left)} left", soft_wrap=True)
    for sequence, reason in result.left.items():
        console.print(printable(f"  {sequence}: {reason}"), soft_wrap=True)


def _print_original(console: Console, headers: Mapping[str, str], payload: bytes) -> None:
    console.print("headers", soft_wrap=True)
    _print_facts(console, headers)
    text = _text(payload)
    console.print(f"payload, {len(payload):,} bytes", soft_wrap=True)
    console.print(f"  {printable(repr(payload) if text is None else text)}", soft_wrap=True)


def _print_facts(console: Console, facts: Mapping[str, object]) -> None:
    for name, value in facts.items():
        if value is not None:
            console.print(printable(f"  {name:10} {value}"), soft_wrap=True)


def _parked_line(message: ParkedMessage | UnreadableMessage) -> str:
    if isinstance(message, UnreadableMessage):
        return printable(f"{message.sequence:>6}  {message.subject}  {message.problem}")
    record = message.record
    own = record.aggregate_id or "-"
    return printable(
        f"{message.sequence:>6}  {record.parked_at[:19]}  {record.subject} {own}  "
        f"{record.delivered}x  {record.code}: {record.reason}"
    )


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="milliseconds")


def _text(payload: bytes) -> str | None:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None
