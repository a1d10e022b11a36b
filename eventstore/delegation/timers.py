"""Timer requests: users set and cancel timers for the commands that they may send, and no others.

A schedule's target is chosen by whoever publishes it, and a roll-up header deletes all timers. So
users publish to the service, on subjects that name the user and the command, and the service makes
the message. Timers of different users have different names, whatever the users call them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Request
from eventstore.commands.senders import sender_in
from eventstore.delegation.requests import (
    api_subject,
    api_tokens,
    refusal,
    request_answer,
    stored_answer,
)
from eventstore.errors import EventTooLarge, InvalidMessage, InvalidTimer
from eventstore.jetstream.stored_message import StoredMessage, leader_get
from eventstore.jetstream.vocabulary import Api, ErrorCode, NatsHeader
from eventstore.messages.envelope import parse_timestamp, utc_now
from eventstore.messages.headers import (
    AUTHENTICATED_AS,
    DUE,
    EXPECTED_VERSION,
    ID_DERIVED,
    RULES,
)
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.timers.schedule import BETWEEN, Schedule, check_timer_name, time_in
from eventstore.timers.timer import scheduled
from eventstore.timers.timers import set_timer

_OF_A_COMMAND = {*RULES, DUE, EXPECTED_VERSION, ID_DERIVED} - {AUTHENTICATED_AS}
_EXPECTED = NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE


class _Get(msgspec.Struct):
    last_by_subj: str = ""
    seq: int = 0


_decode_get = msgspec.json.Decoder(_Get).decode


class TimerRequests:
    """Sets, gets and deletes timers for users, below `{domain}.api.TIMER`.

    The subject names the user, and users may publish on their own only; and the command, for which
    they need the same permission as to send it.
    """

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subjects = subjects
        self._stream = subjects.timer_stream

    @staticmethod
    def subject(domain: str, verb: str, user: str, *command: str) -> str:
        """The subject of a user's SET, with a name, an aggregate and an action; GET or DELETE."""
        return api_subject(domain, "TIMER", verb, user, *command)

    @staticmethod
    def any_subject(domain: str) -> str:
        """The subject on which timers of all users, and of the service, can be set."""
        return api_subject(domain, "TIMER", "ANY", "*", "*", "*")

    def answers(self) -> dict[str, Answer]:
        """The answers for a `Responder`, by subject."""
        domain = self._subjects.domain
        return {
            self.subject(domain, "SET", "*", "*", "*", "*"): request_answer(self._set),
            self.any_subject(domain): request_answer(self._set_any),
            self.subject(domain, "GET", "*"): request_answer(self._get),
            self.subject(domain, "DELETE", "*"): request_answer(self._delete),
        }

    async def _set(self, request: Request) -> Mapping[str, Any]:
        _, _, user, name, aggregate, action = api_tokens(request)
        return await self._publish(request, _name_of(user, name), aggregate, action)

    async def _set_any(self, request: Request) -> Mapping[str, Any]:
        _, _, name, aggregate, action = api_tokens(request)
        user, _, own = name.rpartition(BETWEEN)
        return await self._publish(request, _name_of(user, own), aggregate, action)

    async def _publish(
        self, request: Request, name: str, aggregate: str, action: str
    ) -> Mapping[str, Any]:
        draft = scheduled(
            *(self._subjects, name, aggregate, action),
            {**_schedule(request.headers), **_expected(request.headers)},
            _command_headers(request.headers),
            request.payload,
            "timer",
        )
        try:
            sequence = await set_timer(self._client, draft, stream=self._stream)
        except (InvalidTimer, EventTooLarge) as error:
            raise refusal(str(error)) from error
        return {"stream": self._stream, "seq": sequence}

    async def _get(self, request: Request) -> Mapping[str, Any]:
        found = await self._own(request)
        _, _, user = api_tokens(request)
        own_name = found.subject.removeprefix(self._subjects.timer(_name_of(user, "")))
        return stored_answer(found, self._subjects.timer(own_name))

    async def _delete(self, request: Request) -> Mapping[str, Any]:
        message = await self._own(request)
        suffix = Api.MESSAGE_DELETE.of(self._stream)
        return await self._client.api(suffix, {"seq": message.sequence, "no_erase": True})

    async def _own(self, request: Request) -> StoredMessage:
        """The requested timer, if it is the user's."""
        _, _, user = api_tokens(request)
        wanted = _wanted(request)
        prefix = self._subjects.timer(_name_of(user, ""))
        if wanted.last_by_subj:
            name = wanted.last_by_subj.removeprefix(self._subjects.timer(""))
            body: dict[str, Any] = {"last_by_subj": f"{prefix}{_checked(name)}"}
        else:
            body = {"seq": wanted.seq}
        message = await leader_get(self._client, self._stream, body)
        if message is None or not message.subject.startswith(prefix):
            raise refusal("no such timer is waiting", ErrorCode.NO_MESSAGE_FOUND)
        return message


def _name_of(user: str, name: str) -> str:
    own = _checked(name) if name else name
    return f"{user}{BETWEEN}{own}" if user else own


def _checked(name: str) -> str:
    try:
        return check_timer_name(name)
    except InvalidTimer as error:
        raise refusal(str(error)) from error


def _wanted(request: Request) -> _Get:
    try:
        return _decode_get(request.payload)
    except UNDECODABLE as error:
        raise refusal(f"the request names no timer: {error}") from error


def _schedule(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the schedule, made from a valid one."""
    pattern = headers.get(NatsHeader.SCHEDULE, "")
    zone = headers.get(NatsHeader.SCHEDULE_TIME_ZONE)
    try:
        time = time_in(pattern)
        if time is None:
            return Schedule.recurring(pattern, zone).headers
        schedule = Schedule.once(utc_now(), at=parse_timestamp(time)).headers
    except (InvalidMessage, ValueError) as error:
        raise refusal(str(error)) from error
    return {name: value for name, value in schedule.items() if name != DUE}


def _expected(headers: Mapping[str, str]) -> dict[str, str]:
    """The sequence of the timer that is to be replaced, if one is named."""
    expected = headers.get(_EXPECTED)
    if expected is None:
        return {}
    if not (expected.isascii() and expected.isdecimal()):
        raise refusal(f"{_EXPECTED} is not a number")
    return {_EXPECTED: expected}


def _command_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the command, and its sender according to the server."""
    own = {name: value for name, value in headers.items() if name in _OF_A_COMMAND}
    sender = sender_in(dict(headers))
    if sender is None:
        return own
    if not sender:
        raise refusal(f"{NatsHeader.REQUEST_INFO} is not as the server writes it, at the end")
    return {**own, AUTHENTICATED_AS: sender}
