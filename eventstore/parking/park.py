"""Parking events: one that a subscriber cannot handle is kept whole, with the reason."""

from __future__ import annotations

from eventstore.client.client import Client
from eventstore.jetstream.acks import DeliveryTracker
from eventstore.messages.envelope import Header
from eventstore.messages.outcome import code_of
from eventstore.messages.subjects import Subject
from eventstore.parking.record import ParkedRecord, keep_record
from eventstore.text import presentable

__all__ = ["park_event", "reason_of"]


async def park_event(
    client: Client,
    subscriber: str,
    stream: str,
    taken: DeliveryTracker,
    error: Exception,
    attempts: int,
) -> None:
    """Keep an event on `{domain}.parked.event.{subscriber}.{aggregate}.{action}`.

    Once, however often this is called within the parked stream's duplicate window. Returns when
    the server has it; raises `ClientError`, and what the error's own `__str__` raises.
    """
    message, delivery = taken.message, taken.delivery
    headers = message.headers or {}
    subject = Subject.split(message.subject)
    record = ParkedRecord(
        subject=message.subject,
        headers=headers,
        payload=message.data,
        code=code_of(error),
        reason=reason_of(error),
        stream=stream,
        sequence=delivery.sequence,
        stored_at_ns=delivery.time,
        delivered=delivery.delivered,
        aggregate=subject.aggregate,
        aggregate_id=headers.get(Header.AGGREGATE_ID),
        subscriber=subscriber,
        attempts=attempts,
    )
    key = f"{subscriber}-{stream}-{delivery.sequence}-{delivery.time}"
    parked = f"{subject.domain}.parked.event.{subscriber}.{subject.aggregate}.{subject.action}"
    await keep_record(client, parked, record, key)


def reason_of(error: Exception) -> str:
    """What a handler's error says, or at least which it is."""
    return presentable(error) or type(error).__name__
