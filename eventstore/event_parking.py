"""Parking events: one that a subscriber cannot handle is kept whole, with the reason."""

from __future__ import annotations

import msgspec
from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.commands.parking import PART
from eventstore.envelope import Header
from eventstore.publishing import publish_acked
from eventstore.pull import Delivery

__all__ = ["park_event"]

_HEADER_ROOM = 512


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is parked: the original bytes and headers, and why, where and how often tried."""

    subject: str
    headers: dict[str, str]
    payload: bytes
    code: str
    reason: str
    subscriber: str
    stream: str
    sequence: int
    stored_at_ns: int
    delivered: int
    attempts: int


async def park_event(
    client: Client,
    subscriber: str,
    stream: str,
    message: Msg,
    delivery: Delivery,
    error: Exception,
    attempts: int,
) -> None:
    """Keep an event on `{domain}.parked.event.{subscriber}.{aggregate}.{action}`.

    Once, however often this is called within the stream's duplicate window. Returns when the
    server has it. The record is JSON, in several parts where one message could not hold it.
    """
    record = msgspec.json.encode(
        _Record(
            subject=message.subject,
            headers=message.headers or {},
            payload=message.data,
            code=getattr(error, "code", "handler_failed"),
            reason=str(error) or type(error).__name__,
            subscriber=subscriber,
            stream=stream,
            sequence=delivery.sequence,
            stored_at_ns=delivery.time,
            delivered=delivery.delivered,
            attempts=attempts,
        )
    )
    domain, _, rest = message.subject.split(".", 2)
    subject = f"{domain}.parked.event.{subscriber}.{rest}"
    size = client.max_payload - _HEADER_ROOM
    parts = [record[start : start + size] for start in range(0, len(record), size)]
    for number, part in enumerate(parts, start=1):
        own = f"{subscriber}-{stream}-{delivery.sequence}-{delivery.time}-{number}"
        headers = {Header.MESSAGE_ID: own, PART: f"{number}/{len(parts)}"}
        await publish_acked(client, subject, part, headers)
