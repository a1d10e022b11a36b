"""Parks messages that cannot be handled, with the reason."""

from __future__ import annotations

from typing import Any

from eventstore.client.client import Client
from eventstore.jetstream.acks import TrackedDelivery
from eventstore.messages.subjects import Subject
from eventstore.parking.record import ParkedRecord, store_record


async def park(client: Client, stream: str, tracked: TrackedDelivery, **why: Any) -> None:
    """Park a command on `{domain}.parked.cmd.{aggregate}.{action}`, or a subscriber's event.

    An event is parked on `{domain}.parked.event.{subscriber}.{aggregate}.{action}`. `why` are the
    fields of its `ParkedRecord` that the delivery does not have. Idempotent within the parked
    stream's duplicate window. Returns when the server has stored it; raises `ClientError`.
    """
    message, delivery = tracked.message, tracked.delivery
    subject = Subject.split(message.subject)
    record = ParkedRecord(
        subject=message.subject,
        headers=message.headers or {},
        payload=message.data,
        stream=stream,
        sequence=delivery.sequence,
        stored_at_ns=delivery.time,
        delivered=delivery.delivered,
        aggregate=subject.aggregate,
        **why,
    )
    kind, key = "cmd", f"{stream}-{delivery.sequence}-{delivery.time}"
    if record.subscriber is not None:
        kind, key = f"event.{record.subscriber}", f"{record.subscriber}-{key}"
    parked = f"{subject.domain}.parked.{kind}.{subject.aggregate}.{subject.action}"
    await store_record(client, parked, record, key)
