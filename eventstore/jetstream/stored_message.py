"""Stored messages: read from the server's answers, which are checked before use; and erased."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from eventstore.client.api_answers import MessageAnswer, Success, decimal
from eventstore.client.client import Client, Message, Msg
from eventstore.client.protocol import UnreadableHeaders, read_headers
from eventstore.errors import InvalidAnswer, JetStreamError
from eventstore.jetstream.api import stream_request
from eventstore.jetstream.vocabulary import Api, ErrorCode, NatsHeader
from eventstore.messages.envelope import EventHeaders
from eventstore.messages.event_lines import event_block, event_headers

_GET_HEADERS = (NatsHeader.STREAM, NatsHeader.SUBJECT, NatsHeader.SEQUENCE, NatsHeader.TIME_STAMP)

_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8})(?:\.([0-9]{1,9}))?Z")  # of the server's

# What the server appends to the headers of a message that it answers a direct get with.
_in_reply = event_block(
    rf"{NatsHeader.STREAM}: (\S+)\r\n"
    rf"{NatsHeader.SUBJECT}: (\S+)\r\n"
    rf"{NatsHeader.SEQUENCE}: ([1-9][0-9]{{0,18}})\r\n"
    rf"{NatsHeader.TIME_STAMP}: {_TIME.pattern}\r\n"
    rf"(?:{NatsHeader.NUM_PENDING}: [0-9]{{1,19}}\r\n"
    rf"{NatsHeader.LAST_SEQUENCE}: ([0-9]{{1,19}})\r\n)?"
    r"\r\n"
).fullmatch

# The server's own errors are sentences; those of its operating system name the call and the file.
_SYSTEM_ERROR = re.compile(r"\w+ /.*: .+")

_NEVER = 2**62
"""A sequence that no stream will reach."""

_alone = event_block(r"\r\n").fullmatch


class StoredMessage(msgspec.Struct, frozen=True, gc=False):
    """A message of a stream; `headers` are those it was published with.

    `time` is when the stream stored it, in nanoseconds of the Unix epoch; 0 if that is not known.
    """

    subject: str
    sequence: int
    headers: Mapping[str, str]
    payload: bytes
    time: int = 0


def stored_time(text: str) -> int:
    """The nanoseconds of the Unix epoch in a time of the server's; 0 if it is not one."""
    found = _TIME.fullmatch(text)
    return 0 if found is None else _nanoseconds(*found.groups())


def _nanoseconds(until_second: str, fraction: str | None) -> int:
    seconds = _seconds(until_second)
    return seconds and seconds + int((fraction or "").ljust(9, "0"))


@lru_cache(maxsize=64)  # many messages are stored in one second
def _seconds(text: str) -> int:
    """The nanoseconds at the beginning of a second; 0 if there is no such time."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def delivered(message: Message, sequence: int, time: int = 0) -> StoredMessage:
    """The stored message that a consumer has delivered; `time` is as in `StoredMessage`."""
    headers = _event_headers(message.block) or message.headers or {}
    return StoredMessage(message.subject, sequence, headers, message.data, time)


def event_in(answer: Message, stream: str) -> tuple[StoredMessage, int] | None:
    """The event in a reply to a direct get; None if it may be anything else.

    With the sequence of the one before it in a page, 0 if there is none. An event is recognised
    only as the store writes it.
    """
    try:
        found = _in_reply(answer.block.decode())
    except UnicodeDecodeError:
        return None
    if found is None:
        return None
    values = found.groups()
    origin, subject, sequence, until_second, fraction, before = values[-6:]
    headers = event_headers(values)
    if headers is None or origin != stream:
        return None
    time = _nanoseconds(until_second, fraction)
    return StoredMessage(subject, int(sequence), headers, answer.data, time), int(before or 0)


def _event_headers(block: bytes) -> EventHeaders | None:
    """The headers of an event as the store writes it; None if it may be anything else."""
    try:
        found = _alone(block.decode())
    except UnicodeDecodeError:
        return None
    return None if found is None else event_headers(found.groups())


async def leader_get(
    client: Client, stream: str, request: dict[str, Any], *, timeout: float = 5.0
) -> StoredMessage | None:
    """The requested message, from the stream's leader; None if there is none.

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
    headers, stored = (
        _event_headers(found.hdrs) or read_headers(found.hdrs),
        stored_time(found.time),
    )
    message = StoredMessage(found.subject, found.seq, headers, found.data, stored)
    if (subject := request.get("last_by_subj") or request.get("next_by_subj")) is not None:
        check_subject(message, subject)
    if message.sequence < request.get("seq", 1):
        raise InvalidAnswer(f"{stream}: requested from {request['seq']} on, answered {found.seq}")
    return message


async def erase_message(client: Client, stream: str, sequence: int, timeout: float = 5.0) -> None:
    """Delete a message and overwrite its bytes; does nothing if it is deleted already.

    Raises `JetStreamError` if the stream denies deletion, and other `ClientError`s.
    """
    await delete_message(client, stream, sequence, timeout, erase=True)


async def delete_message(
    client: Client, stream: str, sequence: int, timeout: float = 5.0, *, erase: bool = False
) -> bool:
    """Delete a message; returns whether it was there, and raises as `erase_message` does.

    To `erase` its bytes, too, takes the server fifty times as long.
    """
    request = {"seq": sequence, "no_erase": not erase}
    try:
        await stream_request(
            client, Api.MESSAGE_DELETE, stream, body=request, answer=Success, timeout=timeout
        )
    except JetStreamError:  # the server has one error code for all causes
        if await leader_get(client, stream, {"seq": sequence}, timeout=timeout) is not None:
            raise
        return False
    return True


async def write_error(client: Client, stream: str, *, timeout: float = 5.0) -> str | None:
    """The error that has frozen a stream; None if there is none, or it denies deletion.

    It is asked to delete a message that cannot exist, of which a frozen one says why it does not
    write. Raises other errors than this, and `ClientError`.
    """
    request = {"seq": _NEVER, "no_erase": True}
    try:
        await stream_request(
            client, Api.MESSAGE_DELETE, stream, body=request, answer=Success, timeout=timeout
        )
    except JetStreamError as error:
        if error.err_code != ErrorCode.DELETE_FAILED:
            raise
        return error.description if _SYSTEM_ERROR.match(error.description) else None
    return None


def read_direct(answer: Msg, stream: str, subject: str | None = None) -> StoredMessage | None:
    """Read the answer to a direct get of one message; None if there is none.

    Raises `JetStreamError` for an error, `InvalidAnswer` for anything else than a message of the
    stream and the subject.
    """
    event = event_in(answer, stream) if isinstance(answer, Message) else None
    message = _read_carefully(answer, stream) if event is None else event[0]
    if message is not None and subject is not None:
        check_subject(message, subject)
    return message


def _read_carefully(answer: Msg, stream: str) -> StoredMessage | None:
    headers = answer.headers or {}
    status = status_of(headers)
    if status is None:
        return stored_in(headers, answer.data, stream)
    if status == 404:
        return None
    raise JetStreamError(0, status, headers.get("Description", "refused"))


def status_of(headers: Mapping[str, str]) -> int | None:
    """The status of an answer without a message; None for a message.

    A stored message may have a header `Status` too, but always comes with its sequence.
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
    """The message in an answer, without the headers that the server added.

    `added` are those besides the usual ones. Raises `InvalidAnswer` for anything else than a
    message of the stream.
    """
    if NatsHeader.SUBJECT not in headers:
        raise InvalidAnswer(f"a message of {stream} was requested, and something else answered")
    sequence = number_in(stream, headers, NatsHeader.SEQUENCE)
    subject = headers[NatsHeader.SUBJECT]
    # The server appends its headers, in this order, to the stored ones. If those do not end with
    # an empty line, it overwrites a part of their last line with the first of its own.
    names = list(headers)
    before = names[names.index(NatsHeader.SUBJECT) - 1]
    line, wanted = f"{before}: {headers[before]}", f"{NatsHeader.STREAM}: {stream}"
    is_readable = not isinstance(headers, UnreadableHeaders)
    if is_readable and before == NatsHeader.STREAM and not line.endswith(wanted):
        raise InvalidAnswer(f"a message of {stream} was requested, and something else answered")
    if is_readable and line != wanted:
        headers = UnreadableHeaders(headers, "they do not end with an empty line")
    stored = stored_time(headers.get(NatsHeader.TIME_STAMP, ""))
    message = StoredMessage(subject, sequence, headers, payload, stored)
    for name in (*_GET_HEADERS, *added):
        headers.pop(name, None)
    return message


def number_in(requested: str, headers: Mapping[str, str], name: str) -> int:
    """The number in a header of an answer; raises `InvalidAnswer` if there is none."""
    number = decimal(headers.get(name))
    if number is None:
        raise InvalidAnswer(f"{requested}: the answer has no {name}")
    return number


def check_subject(message: StoredMessage, subject: str) -> None:
    """Raise `InvalidAnswer` unless the message's subject matches; it may have wildcards."""
    if message.subject != subject and not _matches(message.subject.split("."), subject.split(".")):
        raise InvalidAnswer(f"{subject} was requested, and a message of {message.subject} answered")


def _matches(subject: list[str], pattern: list[str]) -> bool:
    if pattern[-1] == ">":
        subject, pattern = subject[: len(pattern)], [*pattern[:-1], "*"]
    return len(subject) == len(pattern) and all(
        wanted in ("*", token) for token, wanted in zip(subject, pattern, strict=True)
    )
