"""Parks commands that cannot be carried out: stores the messages with the reason."""

from __future__ import annotations

from eventstore.client.client import Client
from eventstore.commands.decoding import ReceivedCommand
from eventstore.messages.outcome import Outcome
from eventstore.messages.subjects import Subject
from eventstore.parking.record import ParkedRecord, store_record


async def park(
    client: Client, domain: str, stream: str, received: ReceivedCommand, why: Outcome
) -> None:
    """Store a command that cannot be carried out on `{domain}.parked.cmd.{aggregate}.{action}`.

    Repeated calls within the parked stream's duplicate window store it once. Returns when the
    server has it, so that the command can then be removed from its stream.
    """
    message, delivery = received.message, received.delivery
    record = ParkedRecord(
        subject=message.subject,
        headers=message.headers or {},
        payload=message.data,
        code=why.code,
        reason=why.message,
        command_id=received.command_id,
        aggregate=received.aggregate,
        aggregate_id=received.aggregate_id,
        stream=stream,
        sequence=delivery.sequence,
        stored_at_ns=delivery.time,
        delivered=delivery.delivered,
    )
    sent = Subject.split(message.subject)
    subject = f"{domain}.parked.cmd.{sent.aggregate}.{sent.action}"
    key = f"{stream}-{delivery.sequence}-{delivery.time}"
    await store_record(client, subject, record, key)
