"""Parks events that a subscriber cannot handle, with the reason."""

from __future__ import annotations

from eventstore.client.client import Client
from eventstore.jetstream.acks import DeliveredMessage
from eventstore.messages.headers import Header
from eventstore.messages.outcome import code_of
from eventstore.messages.subjects import Subject
from eventstore.parking.record import ParkedRecord, store_record
from eventstore.text import presentable


async def park_event(
    client: Client,
    subscriber: str,
    stream: str,
    tracked: DeliveredMessage,
    error: Exception,
    attempts: int,
) -> None:
    """Park an event on `{domain}.parked.event.{subscriber}.{aggregate}.{action}`.

    Idempotent within the parked stream's duplicate window. Returns when the server has stored it;
    raises `ClientError`, and what the error's own `__str__` raises.
    """
    message, delivery = tracked.message, tracked.delivery
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
    await store_record(client, parked, record, key)


def reason_of(error: Exception) -> str:
    """The text of a handler's error, or its type if it has none."""
    return presentable(error) or type(error).__name__
