"""JetStream's answers as types, so that each is checked when it is read.

Anybody who may publish to our inboxes can forge an answer, and answers decide what is recorded. A
missing field, or one of another type, raises `InvalidAnswer`, which names the request.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from eventstore.errors import InvalidAnswer, JetStreamError
from eventstore.messages.undecodable import UNDECODABLE

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0)]
Sequence = Annotated[int, Meta(ge=1)]

_DIGITS = 19


class _MessageData(Struct, frozen=True):
    """A message of a stream; headers and payload are decoded from base64."""

    subject: str
    seq: Sequence
    hdrs: bytes = b""
    data: bytes = b""
    time: str = ""


class MessageAnswer(Struct, frozen=True):
    """The answer to `STREAM.MSG.GET`."""

    message: _MessageData


class Success(Struct, frozen=True):
    """The answer to a delete request."""

    success: bool

    def __post_init__(self) -> None:
        if not self.success:
            raise ValueError("it reports a failure without an error")


class StreamState(Struct, frozen=True):
    """A stream's state; `first_ts` is when its first message was stored.

    `subjects` are the numbers of messages by subject, if they were asked for.
    """

    messages: Count
    bytes: Count
    first_seq: Count
    last_seq: Count
    first_ts: str
    subjects: dict[str, Count] | None = None


class _StreamConfig(Struct, frozen=True):
    name: str
    num_replicas: Sequence
    subjects: list[str] = []
    metadata: dict[str, str] = {}


_MAX_LAG = 1_000
_MAX_SILENCE = 5_000_000_000


class _Replica(Struct, frozen=True):
    name: str = ""
    current: bool = True
    offline: bool = False
    active: int = 0
    lag: int = 0

    @property
    def is_behind(self) -> bool:
        """Whether the leader could not fall back on it, more than for the moments of a write."""
        is_late = self.lag > _MAX_LAG or self.active > _MAX_SILENCE
        return self.offline or (is_late and not self.current)


class _Cluster(Struct, frozen=True):
    leader: str = ""
    replicas: list[_Replica] | None = None


CREATED_NOTE = "eventstore.created"
"""The name in a restored stream's metadata of when the original was created."""


class StreamInfo(Struct, frozen=True):
    """The answer to `STREAM.INFO`, and to the creation or update of a stream."""

    created: Annotated[str, Meta(min_length=1)]
    config: dict[str, Any]
    state: StreamState
    cluster: _Cluster | None = None

    def __post_init__(self) -> None:
        msgspec.convert(self.config, _StreamConfig)

    @property
    def has_leader(self) -> bool:
        """Whether the server that answered knows a leader; without one, replicas answer, too."""
        return self.cluster is None or bool(self.cluster.leader)

    @property
    def replicas(self) -> int:
        """The number of replicas."""
        return msgspec.convert(self.config, _StreamConfig).num_replicas

    @property
    def behind(self) -> list[str]:
        """The servers whose replicas are offline, or lag by 1,000 operations or 5 seconds."""
        replicas = (self.cluster and self.cluster.replicas) or []
        return sorted(each.name for each in replicas if each.is_behind)

    @property
    def subjects(self) -> list[str]:
        """The stream's subjects."""
        return msgspec.convert(self.config, _StreamConfig).subjects

    @property
    def name(self) -> str:
        """The stream's name."""
        return msgspec.convert(self.config, _StreamConfig).name

    @property
    def metadata(self) -> dict[str, str]:
        """The stream's metadata."""
        return msgspec.convert(self.config, _StreamConfig).metadata

    @property
    def first_created(self) -> str:
        """When the stream was created; if it was restored since, when the original was."""
        return self.metadata.get(CREATED_NOTE, self.created)


class _Floor(Struct, frozen=True):
    """Up to which sequence of the stream something was done."""

    stream_seq: Count = 0


class ConsumerInfo(Struct, frozen=True):
    """The answer to `CONSUMER.INFO`, and to a creation or update; `ts` is the server's time.

    Everything up to `ack_floor` is acknowledged; `num_waiting` requests wait for messages.
    """

    name: str
    config: dict[str, Any]
    num_pending: Count
    num_ack_pending: Count
    num_redelivered: Count
    ts: Annotated[str, Meta(min_length=1)]
    created: str = ""
    num_waiting: Count = 0
    ack_floor: _Floor = _Floor()


class ConsumerList(Struct, frozen=True):
    """One page of the answer to `CONSUMER.LIST`; `total` counts all consumers."""

    total: Count
    consumers: list[ConsumerInfo] | None = None


class _Error(Struct, frozen=True):
    code: Count = 0
    err_code: Count = 0
    description: str = ""


class _MaybeError(Struct, frozen=True):
    error: _Error | None = None


_decode_error = msgspec.json.Decoder(_MaybeError).decode


def read_answer(subject: str, data: bytes, answer: type[T]) -> T:
    """Read the answer to a request on a subject.

    Raises `JetStreamError` for an error, `InvalidAnswer` for one of another type.
    """
    try:
        error = _decode_error(data).error
        if error is None:
            return msgspec.json.decode(data, type=answer)
    except UNDECODABLE as problem:
        raise InvalidAnswer(f"{subject}: not a JetStream answer: {problem}") from problem
    raise JetStreamError(error.err_code, error.code, error.description)


def decimal(text: str | None) -> int | None:
    """The number in a header; None if it is not one that a server would write."""
    if text is None or len(text) > _DIGITS or not (text.isascii() and text.isdecimal()):
        return None
    return int(text)
