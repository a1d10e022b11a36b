"""Parking: commands that cannot be carried out are kept whole, with the reason, for a person."""

from __future__ import annotations

import msgspec
from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.envelope import Header
from eventstore.publishing import publish_acked
from eventstore.pull import Delivery

__all__ = ["park"]


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is parked: the original bytes and headers, and why, where and how often tried."""

    subject: str
    headers: dict[str, str]
    payload: bytes
    code: str
    reason: str
    stream: str
    sequence: int
    stored_at_ns: int
    delivered: int


async def park(
    client: Client, domain: str, stream: str, message: Msg, delivery: Delivery, error: Exception
) -> None:
    """Keep a command that cannot be carried out, once however often this is called.

    Returns when the server has it, so that the command can then be taken off its stream.
    """
    record = _Record(
        subject=message.subject,
        headers=message.headers or {},
        payload=message.data,
        code=getattr(error, "code", "handler_failed"),
        reason=str(error) or type(error).__name__,
        stream=stream,
        sequence=delivery.sequence,
        stored_at_ns=delivery.time,
        delivered=delivery.delivered,
    )
    place = f"{stream}-{delivery.sequence}-{delivery.time}"
    await publish_acked(
        client,
        f"{domain}.parked.{message.subject.partition('.')[2]}",
        msgspec.json.encode(record),
        headers={Header.MESSAGE_ID: place},
    )
