"""What JetStream answers, as types: so an answer that is not as it should be is found at once.

Whoever can publish to an inbox of ours can answer in the server's place; and what is read of an
answer decides what is recorded. A field that is missing or of another type is an `InvalidAnswer`
that names what was asked.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from eventstore.errors import InvalidAnswer, JetStreamError
from eventstore.undecodable import UNDECODABLE

__all__ = [
    "ConsumerInfo",
    "Done",
    "MessageAnswer",
    "StreamInfo",
    "StreamState",
    "decimal",
    "read_answer",
]

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0)]
Sequence = Annotated[int, Meta(ge=1)]

_DIGITS = 19


class _StoredMessage(Struct, frozen=True):
    """A message of a stream; its headers and its payload in base64, which is decoded."""

    subject: str
    seq: Sequence
    hdrs: bytes = b""
    data: bytes = b""


class MessageAnswer(Struct, frozen=True):
    """The answer to `STREAM.MSG.GET`."""

    message: _StoredMessage


class Done(Struct, frozen=True):
    """The answer to what deletes something."""

    success: bool

    def __post_init__(self) -> None:
        if not self.success:
            raise ValueError("it is said not to be done, and not why")


class StreamState(Struct, frozen=True):
    """What a stream holds; `first_ts` is when its first message was stored."""

    messages: Count
    bytes: Count
    first_seq: Count
    last_seq: Count
    first_ts: str


class _StreamConfig(Struct, frozen=True):
    name: str
    num_replicas: Sequence
    subjects: list[str] = []


class StreamInfo(Struct, frozen=True):
    """The answer to `STREAM.INFO`, and to what creates a stream or changes it."""

    created: Annotated[str, Meta(min_length=1)]
    config: dict[str, Any]
    state: StreamState

    def __post_init__(self) -> None:
        msgspec.convert(self.config, _StreamConfig)

    @property
    def replicas(self) -> int:
        """How many servers hold the stream."""
        return msgspec.convert(self.config, _StreamConfig).num_replicas

    @property
    def subjects(self) -> list[str]:
        """What it takes."""
        return msgspec.convert(self.config, _StreamConfig).subjects


class ConsumerInfo(Struct, frozen=True):
    """The answer to `CONSUMER.INFO`, and to what creates a consumer; `ts` is the server's time."""

    name: str
    config: dict[str, Any]
    num_pending: Count
    num_ack_pending: Count
    num_redelivered: Count
    ts: Annotated[str, Meta(min_length=1)]


class _Error(Struct, frozen=True):
    code: Count = 0
    err_code: Count = 0
    description: str = ""


class _MaybeError(Struct, frozen=True):
    error: _Error | None = None


_decode_error = msgspec.json.Decoder(_MaybeError).decode


def read_answer(subject: str, data: bytes, answer: type[T]) -> T:
    """Read what was answered to a request on a subject.

    Raises `JetStreamError` where it is an error, `InvalidAnswer` where it is not as it should be.
    """
    try:
        error = _decode_error(data).error
        if error is None:
            return msgspec.json.decode(data, type=answer)
    except UNDECODABLE as problem:
        raise InvalidAnswer(f"{subject}: not a JetStream answer: {problem}") from problem
    raise JetStreamError(error.err_code, error.code, error.description)


def decimal(text: str | None) -> int | None:
    """The number that a header says; None where it says none that a server would write."""
    if text is None or len(text) > _DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)
