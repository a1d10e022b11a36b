"""Parking requests: a subscriber parks events that it cannot handle, and takes its own back.

What it parks has to be an event as the event stream has it, parked by the subscriber itself: an
administrator who retries it later would otherwise do what the record says.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.delegation.answering import Refused, answered
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.vocabulary import Api
from eventstore.messages.envelope import Header
from eventstore.messages.subjects import Subjects
from eventstore.parking.record import PART, ParkedRecord
from eventstore.undecodable import UNDECODABLE

__all__ = ["ParkingRequests"]

_WHOLE = "1/1"


class _Sequence(msgspec.Struct):
    seq: int


_decode_record = msgspec.json.Decoder(ParkedRecord).decode
_decode_sequence = msgspec.json.Decoder(_Sequence).decode


class ParkingRequests:
    """Parks, gets and deletes for subscribers, below `{domain}.api.PARKED`.

    That subject names the subscriber, and users may publish on their own only. A record of several
    messages, which one of an event near the largest payload needs, is refused.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._parked = DirectReader(client, subjects.parked_stream)
        self._events = DirectReader(client, subjects.event_stream)

    @staticmethod
    def subject(domain: str, verb: str, subscriber: str) -> str:
        """Where a subscriber asks for PUT (with two more tokens), GET or DELETE."""
        more = ".*.*" if verb == "PUT" else ""
        return f"{domain}.api.PARKED.{verb}.{subscriber}{more}"

    def answers(self) -> dict[str, Answer]:
        """What a `Responder` answers, by subject."""
        verbs = {"PUT": self._put, "GET": self._get, "DELETE": self._delete}
        domain = self._subjects.domain
        return {self.subject(domain, verb, "*"): answered(work) for verb, work in verbs.items()}

    async def _put(self, request: Request) -> Mapping[str, Any]:
        subscriber, aggregate, action = request.subject.split(".")[4:]
        await self._check_record(request, subscriber, f"event.{aggregate}.{action}")
        subject = f"{self._prefix(subscriber)}{aggregate}.{action}"
        headers = {PART: _WHOLE}
        if (key := request.headers.get(Header.MESSAGE_ID)) is not None:
            headers[Header.MESSAGE_ID] = f"{subscriber}-{key}"
        ack = await publish_acked(self._client, subject, request.payload, headers)
        return {
            "stream": self._subjects.parked_stream,
            "seq": ack.seq,
            "duplicate": ack.duplicate,
        }

    async def _check_record(self, request: Request, subscriber: str, subject: str) -> None:
        if request.headers.get(PART) != _WHOLE:
            raise Refused("the record has to be whole")
        try:
            record = _decode_record(request.payload)
        except UNDECODABLE as error:
            raise Refused(f"this is no record: {error}") from error
        if record.subscriber != subscriber or record.command_id is not None:
            raise Refused("the record is another one's")
        event = await self._events.at(record.sequence, leader=True)
        own = f"{self._subjects.domain}.{subject}", record.headers, record.payload
        if event is None or (event.subject, event.headers, event.payload) != own:
            raise Refused(f"the record is not of the event at sequence {record.sequence}")

    async def _get(self, request: Request) -> Mapping[str, Any]:
        message = await self._own(request)
        lines = "".join(f"{name}: {value}\r\n" for name, value in message.headers.items())
        return {
            "message": {
                "subject": message.subject,
                "seq": message.sequence,
                "hdrs": _text(f"NATS/1.0\r\n{lines}\r\n".encode()),
                "data": _text(message.payload),
            }
        }

    async def _delete(self, request: Request) -> Mapping[str, Any]:
        message = await self._own(request)
        suffix = Api.MESSAGE_DELETE.of(self._subjects.parked_stream)
        return await self._client.api(suffix, {"seq": message.sequence, "no_erase": True})

    async def _own(self, request: Request) -> Any:
        """The parked message that is asked for, if this subscriber has parked it."""
        subscriber = request.subject.rpartition(".")[2]
        try:
            sequence = _decode_sequence(request.payload).seq
        except UNDECODABLE as error:
            raise Refused(f"no sequence is named: {error}") from error
        message = await self._parked.at(sequence, leader=True)
        if message is None or not message.subject.startswith(self._prefix(subscriber)):
            raise Refused(f"nothing of {subscriber} is parked at {sequence}")
        return message

    def _prefix(self, subscriber: str) -> str:
        return f"{self._subjects.domain}.parked.event.{subscriber}."


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
