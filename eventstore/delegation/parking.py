"""Parking requests: a subscriber parks events that it cannot handle, and deletes what it parked.

A parked event must be identical to the one in the event stream, and parked by the subscriber
itself: otherwise an administrator who retries it would execute whatever the record contains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.delegation.requests import (
    api_subject,
    api_tokens,
    refusal,
    request_answer,
    stored_answer,
)
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.vocabulary import Api
from eventstore.messages.headers import Header
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.parking.record import PART, ParkedRecord

_SINGLE_PART = "1/1"


class _Sequence(msgspec.Struct):
    seq: int


_decode_record = msgspec.json.Decoder(ParkedRecord).decode
_decode_sequence = msgspec.json.Decoder(_Sequence).decode


class ParkingRequests:
    """Parks, gets and deletes parked events for subscribers, below `{domain}.api.PARKED`.

    The subject names the subscriber, and users may publish on their own only. A record of several
    messages, as an event near the largest payload needs, is refused.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._parked = DirectReader(client, subjects.parked_stream)
        self._events = DirectReader(client, subjects.event_stream)

    @staticmethod
    def subject(domain: str, verb: str, subscriber: str) -> str:
        """The subject of a subscriber's PUT (with two more tokens), GET or DELETE."""
        more = ("*", "*") if verb == "PUT" else ()
        return api_subject(domain, "PARKED", verb, subscriber, *more)

    def answers(self) -> dict[str, Answer]:
        """The answers for a `Responder`, by subject."""
        verbs = {"PUT": self._put, "GET": self._get, "DELETE": self._delete}
        domain = self._subjects.domain
        return {
            self.subject(domain, verb, "*"): request_answer(work) for verb, work in verbs.items()
        }

    async def _put(self, request: Request) -> Mapping[str, Any]:
        _, _, subscriber, aggregate, action = api_tokens(request)
        await self._check_record(request, subscriber, self._subjects.event(aggregate, action))
        subject = f"{self._prefix(subscriber)}{aggregate}.{action}"
        headers = {PART: _SINGLE_PART}
        if (key := request.headers.get(Header.MESSAGE_ID)) is not None:
            headers[Header.MESSAGE_ID] = f"{subscriber}-{key}"
        ack = await publish_acked(self._client, subject, request.payload, headers)
        return {
            "stream": self._subjects.parked_stream,
            "seq": ack.seq,
            "duplicate": ack.duplicate,
        }

    async def _check_record(self, request: Request, subscriber: str, subject: str) -> None:
        if request.headers.get(PART) != _SINGLE_PART:
            raise refusal("the record must be a single message")
        try:
            record = _decode_record(request.payload)
        except UNDECODABLE as error:
            raise refusal(f"this is not a record: {error}") from error
        if record.subscriber != subscriber or record.command_id is not None:
            raise refusal("the record is not of this subscriber")
        event = await self._events.at(record.sequence, leader=True)
        expected = subject, record.headers, record.payload
        if event is None or (event.subject, event.headers, event.payload) != expected:
            raise refusal(f"the record is not of the event at sequence {record.sequence}")

    async def _get(self, request: Request) -> Mapping[str, Any]:
        message = await self._own(request)
        return stored_answer(message, message.subject)

    async def _delete(self, request: Request) -> Mapping[str, Any]:
        message = await self._own(request)
        suffix = Api.MESSAGE_DELETE.of(self._subjects.parked_stream)
        return await self._client.api(suffix, {"seq": message.sequence, "no_erase": True})

    async def _own(self, request: Request) -> Any:
        """The requested parked message, if this subscriber has parked it."""
        _, _, subscriber = api_tokens(request)
        try:
            sequence = _decode_sequence(request.payload).seq
        except UNDECODABLE as error:
            raise refusal(f"the request has no sequence: {error}") from error
        message = await self._parked.at(sequence, leader=True)
        if message is None or not message.subject.startswith(self._prefix(subscriber)):
            raise refusal(f"nothing of {subscriber} is parked at {sequence}")
        return message

    def _prefix(self, subscriber: str) -> str:
        return f"{self._subjects.domain}.parked.event.{subscriber}."
