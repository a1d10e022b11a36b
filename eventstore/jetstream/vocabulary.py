"""What JetStream calls its errors, headers and subjects; the only module that writes them.

It imports nothing of the library, so that rooms below `jetstream` may name a header, too.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

__all__ = ["API_PREFIX", "CONFLICTS", "TRANSIENT", "ErrorCode", "Header"]

API_PREFIX: Final = "$JS.API"
"""What the subjects of the server's API begin with, unless a domain or an account maps it."""


class ErrorCode(IntEnum):
    """The server's `err_code`s that the library tells from others."""

    CLUSTER_UNAVAILABLE = 10008
    """The cluster has no leader just now."""
    CONSUMER_NOT_FOUND = 10014
    NO_MESSAGE_FOUND = 10037
    JETSTREAM_NOT_ENABLED_FOR_ACCOUNT = 10039
    STREAM_NAME_IN_USE = 10058
    """A stream of that name is there with another configuration."""
    STREAM_NOT_FOUND = 10059
    SUBJECT_OVERLAP = 10065
    """Another stream takes some of the subjects."""
    WRONG_LAST_SEQUENCE = 10071
    """An expected sequence is not the last one; the message names the real one."""
    JETSTREAM_NOT_ENABLED = 10076
    STREAM_STORE_FAILED = 10077
    """The message was not stored: a limit of the stream, or its disk; the text says which."""
    CONSUMER_EXISTS = 10148
    DUPLICATE_IN_PROCESS = 10158
    """A message of the same id is being stored; seen on three replicas."""
    LAST_SEQUENCE_UNAVAILABLE = 10163
    """What a message expects cannot be checked just now."""
    WRONG_LAST_SEQUENCE_IN_FLIGHT = 10164
    """A conflicting write is being stored; the message names no sequence."""
    TOO_MANY_REQUESTS = 10167
    """The server's ingest queue is full."""
    BATCH_INCOMPLETE = 10176
    """Messages of an atomic batch are missing: the leader or the connection changed within it."""
    DUPLICATE_IN_BATCH = 10201
    """One of the batch's message ids was stored before; which, and where, is not said."""
    TOO_MANY_BATCHES = 10210
    """Too many atomic batches are open."""


CONFLICTS: Final = frozenset(
    {ErrorCode.WRONG_LAST_SEQUENCE, ErrorCode.WRONG_LAST_SEQUENCE_IN_FLIGHT}
)
"""Another writer was faster: read what is there, and decide again."""

TRANSIENT: Final = frozenset(
    {
        ErrorCode.CLUSTER_UNAVAILABLE,
        ErrorCode.DUPLICATE_IN_PROCESS,
        ErrorCode.LAST_SEQUENCE_UNAVAILABLE,
        ErrorCode.TOO_MANY_REQUESTS,
        ErrorCode.BATCH_INCOMPLETE,
        ErrorCode.TOO_MANY_BATCHES,
    }
)
"""Nothing was stored, and the same request may succeed a moment later."""


class Header(StrEnum):
    """Headers that the server, or its micro protocol, reads or writes."""

    MESSAGE_ID = "Nats-Msg-Id"
    EXPECTED_LAST_SEQUENCE = "Nats-Expected-Last-Sequence"
    EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
    BATCH_ID = "Nats-Batch-Id"
    BATCH_SEQUENCE = "Nats-Batch-Sequence"
    BATCH_COMMIT = "Nats-Batch-Commit"
    STREAM = "Nats-Stream"
    SUBJECT = "Nats-Subject"
    SEQUENCE = "Nats-Sequence"
    LAST_SEQUENCE = "Nats-Last-Sequence"
    TIME_STAMP = "Nats-Time-Stamp"
    NUM_PENDING = "Nats-Num-Pending"
    PENDING_MESSAGES = "Nats-Pending-Messages"
    REQUEST_INFO = "Nats-Request-Info"
    """Who asked, as the server says it where a request crosses accounts."""
    SERVICE_ERROR = "Nats-Service-Error"
    SERVICE_ERROR_CODE = "Nats-Service-Error-Code"
    KV_OPERATION = "KV-Operation"
    """Tells a marker, as that of a deleted key, from a value."""
