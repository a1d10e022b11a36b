"""Stored messages: read from the answers of the server, which are looked at before use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from eventstore.client.api_answers import MessageAnswer, decimal
from eventstore.client.client import Client, Msg
from eventstore.client.protocol import UnreadableHeaders, read_headers
from eventstore.errors import InvalidAnswer, JetStreamError
from eventstore.jetstream.api import stream_request
from eventstore.jetstream.vocabulary import Api, ErrorCode, NatsHeader

__all__ = [
    "StoredMessage",
    "check_sequence",
    "check_subject",
    "leader_get",
    "number_in",
    "read_direct",
    "status_of",
    "stored_in",
]

_GET_HEADERS = (NatsHeader.STREAM, NatsHeader.SUBJECT, NatsHeader.SEQUENCE, NatsHeader.TIME_STAMP)


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as a stream holds it; `headers` are those it was published with."""

    subject: str
    sequence: int
    headers: dict[str, str]
    payload: bytes


async def leader_get(
    client: Client, stream: str, request: dict[str, Any], *, timeout: float = 5.0
) -> StoredMessage | None:
    """The message that is asked for, as the stream's leader has it; None where there is none.

    Raises `StreamMissing`, `InvalidAnswer` for another message, and other `ClientError`s.
    """
    try:
        answer = await stream_request(
            client, Api.MESSAGE_GET, stream, body=request, answer=MessageAnswer, timeout=timeout
        )
    except JetStreamError as error:
        if error.err_code == ErrorCode.NO_MESSAGE_FOUND:
            return None
        raise
    found = answer.message
    message = StoredMessage(found.subject, found.seq, read_headers(found.hdrs), found.data)
    if (subject := request.get("last_by_subj") or request.get("next_by_subj")) is not None:
        check_subject(message, subject)
    if message.sequence < request.get("seq", 1):
        raise InvalidAnswer(f"{stream}: asked from {request['seq']} on, answered {found.seq}")
    return message


def read_direct(answer: Msg, stream: str, subject: str | None = None) -> StoredMessage | None:
    """Read the answer to a direct get of one message; None where there is none.

    Raises `JetStreamError` where it is an error, `InvalidAnswer` where it is no such answer, or is
    of another stream or subject.
    """
    headers = answer.headers or {}
    status = status_of(headers)
    if status is None:
        message = stored_in(headers, answer.data, stream)
        if subject is not None:
            check_subject(message, subject)
        return message
    if status == 404:
        return None
    raise JetStreamError(0, status, headers.get("Description", "refused"))


def status_of(headers: dict[str, str]) -> int | None:
    """The status that the server answers with in place of a message; None for a message.

    What is stored may have a header of this name too, but never comes without its sequence.
    """
    if NatsHeader.SEQUENCE in headers:
        return None
    status = decimal(headers.get("Status"))
    if status is None:
        raise InvalidAnswer("the answer to a direct get is neither a message nor a status")
    return status


def stored_in(
    headers: dict[str, str], payload: bytes, stream: str, added: Iterable[str] = ()
) -> StoredMessage:
    """The message in an answer, without the headers that the server has `added` to its own.

    Raises `InvalidAnswer` where it is no message of the stream.
    """
    if NatsHeader.SUBJECT not in headers:
        raise InvalidAnswer(f"a message of {stream} was asked for, and something else answered")
    sequence = number_in(stream, headers, NatsHeader.SEQUENCE)
    subject = headers[NatsHeader.SUBJECT]
    # The server adds its headers in this order behind the stored ones. Where those do not end as
    # they should, it cuts into their last line, and glues its first one to what is left.
    names = list(headers)
    before = names[names.index(NatsHeader.SUBJECT) - 1]
    line, wanted = f"{before}: {headers[before]}", f"{NatsHeader.STREAM}: {stream}"
    is_readable = not isinstance(headers, UnreadableHeaders)
    if is_readable and before == NatsHeader.STREAM and not line.endswith(wanted):
        raise InvalidAnswer(f"a message of {stream} was asked for, and something else answered")
    if is_readable and line != wanted:
        headers = UnreadableHeaders(headers, "they do not end with an empty line")
    message = StoredMessage(subject, sequence, headers, payload)
    for name in (*_GET_HEADERS, *added):
        headers.pop(name, None)
    return message


def number_in(asked: str, headers: dict[str, str], name: str) -> int:
    """The number in a header of an answer; raises `InvalidAnswer` where there is none."""
    number = decimal(headers.get(name))
    if number is None:
        raise InvalidAnswer(f"{asked}: the answer says no {name}")
    return number


def check_subject(message: StoredMessage, asked: str) -> None:
    """Raise unless the message is on the subject asked for, which may have wildcards."""
    if message.subject != asked and not _matches(message.subject.split("."), asked.split(".")):
        raise InvalidAnswer(f"{asked} was asked for, and a message of {message.subject} answered")


def _matches(subject: list[str], pattern: list[str]) -> bool:
    if pattern[-1] == ">":
        subject, pattern = subject[: len(pattern)], [*pattern[:-1], "*"]
    return len(subject) == len(pattern) and all(
        wanted in ("*", token) for token, wanted in zip(subject, pattern, strict=True)
    )


def check_sequence(sequence: int, found: StoredMessage | None) -> StoredMessage | None:
    """Return what was found; raises `InvalidAnswer` where that is at another sequence."""
    if found is not None and found.sequence != sequence:
        raise InvalidAnswer(f"position {sequence} was asked for, and {found.sequence} answered")
    return found
