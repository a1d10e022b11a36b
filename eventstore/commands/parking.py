"""Parking: commands that cannot be carried out are kept whole, with the reason, for a person."""

from __future__ import annotations

import msgspec

from eventstore.client import Client
from eventstore.commands.intake import Received
from eventstore.commands.outcome import Outcome
from eventstore.envelope import Header
from eventstore.publishing import publish_acked

__all__ = ["PART", "park"]

PART = "X-Part"
"""The header that says which part of the record a message holds: `1/1`, or `1/2` and `2/2`."""

_HEADER_ROOM = 512


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is parked: the original bytes and headers, and why, where and how often tried."""

    subject: str
    headers: dict[str, str]
    payload: bytes
    code: str
    reason: str
    command_id: str
    stream: str
    sequence: int
    stored_at_ns: int
    delivered: int


async def park(client: Client, domain: str, stream: str, received: Received, why: Outcome) -> None:
    """Keep a command that cannot be carried out, once however often this is called.

    Returns when the server has it, so that the command can then be taken off its stream. The
    record is JSON; where it is larger than one message may be, its bytes are in several.
    """
    message, delivery = received.message, received.delivery
    record = msgspec.json.encode(
        _Record(
            subject=message.subject,
            headers=message.headers or {},
            payload=message.data,
            code=why.code,
            reason=why.message,
            command_id=received.command_id,
            stream=stream,
            sequence=delivery.sequence,
            stored_at_ns=delivery.time,
            delivered=delivery.delivered,
        )
    )
    size = client.max_payload - _HEADER_ROOM
    parts = [record[start : start + size] for start in range(0, len(record), size)]
    for number, part in enumerate(parts, start=1):
        own = f"{stream}-{delivery.sequence}-{delivery.time}-{number}"
        await publish_acked(
            client,
            f"{domain}.parked.{message.subject.partition('.')[2]}",
            part,
            headers={Header.MESSAGE_ID: own, PART: f"{number}/{len(parts)}"},
        )
