"""JetStream's error codes, header names and API subjects; no other module writes them.

It imports nothing of the library, so that rooms below `jetstream` may use it, too.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

API_PREFIX: Final = "$JS.API"
"""The prefix of the server's API subjects, unless a domain or an account maps it."""

ACK_PREFIX: Final = "$JS.ACK"
"""The prefix of ack subjects; the stream and the consumer follow."""

SNAPSHOT_ACK_PREFIX: Final = "$JS.SNAPSHOT.ACK"
"""The prefix of the subjects on which the chunks of a stream's snapshot are acknowledged."""

STREAM_DELETED: Final = "$JS.EVENT.ADVISORY.STREAM.DELETED"
"""The advisory of a deleted stream; its name follows."""

SERVER_HEADERS: Final = "Nats-"
"""The prefix of all headers that have a meaning to the server."""

EXPECTED_HEADERS: Final = "Nats-Expected-"
BATCH_HEADERS: Final = "Nats-Batch-"


def domain_api_prefix(domain: str) -> str:
    """The prefix of the API of the JetStream in a domain."""
    return f"$JS.{domain}.API"


class Api(StrEnum):
    """The requests of the server's API, as the subject after the prefix, without the names."""

    ACCOUNT_INFO = "INFO"
    STREAM_CREATE = "STREAM.CREATE"
    STREAM_UPDATE = "STREAM.UPDATE"
    STREAM_INFO = "STREAM.INFO"
    STREAM_DELETE = "STREAM.DELETE"
    STREAM_PURGE = "STREAM.PURGE"
    STREAM_SNAPSHOT = "STREAM.SNAPSHOT"
    STREAM_RESTORE = "STREAM.RESTORE"
    MESSAGE_GET = "STREAM.MSG.GET"
    MESSAGE_DELETE = "STREAM.MSG.DELETE"
    DIRECT_GET = "DIRECT.GET"
    CONSUMER_CREATE = "CONSUMER.CREATE"
    CONSUMER_INFO = "CONSUMER.INFO"
    CONSUMER_LIST = "CONSUMER.LIST"
    CONSUMER_DELETE = "CONSUMER.DELETE"
    CONSUMER_NEXT = "CONSUMER.MSG.NEXT"

    def of(self, *names: str) -> str:
        """The request about a stream (and a consumer, or a subject); each may be a wildcard."""
        return ".".join((self, *names))


class ErrorCode(IntEnum):
    """The server's `err_code`s that the library handles."""

    CLUSTER_UNAVAILABLE = 10008
    """The cluster has no leader at the moment."""
    CONSUMER_NOT_FOUND = 10014
    NO_MESSAGE_FOUND = 10037
    JETSTREAM_NOT_ENABLED_FOR_ACCOUNT = 10039
    STREAM_NAME_IN_USE = 10058
    """A stream of that name exists with another configuration."""
    STREAM_NOT_FOUND = 10059
    SUBJECT_OVERLAP = 10065
    """Another stream has some of the subjects."""
    WRONG_LAST_SEQUENCE = 10071
    """An expected sequence is not the last one; the message names the real one."""
    JETSTREAM_NOT_ENABLED = 10076
    STREAM_STORE_FAILED = 10077
    """The message was not stored: a limit of the stream, or its disk; the text says which."""
    CONSUMER_EXISTS = 10148
    DUPLICATE_IN_PROCESS = 10158
    """A message of the same id is being stored; seen on three replicas."""
    LAST_SEQUENCE_UNAVAILABLE = 10163
    """The expected sequence cannot be checked at the moment."""
    WRONG_LAST_SEQUENCE_IN_FLIGHT = 10164
    """A conflicting write is being stored; the message names no sequence."""
    TOO_MANY_REQUESTS = 10167
    """The server's ingest queue is full."""
    BATCH_INCOMPLETE = 10176
    """Messages of an atomic batch are missing: the leader or the connection changed within it."""
    SCHEDULE_INVALID = 10189
    """The server does not understand a schedule, or does not know that kind of schedule yet."""
    TIME_ZONE_INVALID = 10223
    """The server does not know the time zone of a schedule."""
    DUPLICATE_IN_BATCH = 10201
    """One of the batch's message ids was stored before; the server does not say which or where."""
    TOO_MANY_BATCHES = 10210
    """Too many atomic batches are open."""


NO_JETSTREAM: Final = frozenset(
    {ErrorCode.JETSTREAM_NOT_ENABLED_FOR_ACCOUNT, ErrorCode.JETSTREAM_NOT_ENABLED}
)

CONFLICTS: Final = frozenset(
    {ErrorCode.WRONG_LAST_SEQUENCE, ErrorCode.WRONG_LAST_SEQUENCE_IN_FLIGHT}
)
"""Another writer was faster: read the current state, and retry."""

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


class NatsHeader:
    """Headers of the server, of its key-value buckets and of NATS micro."""

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
    """The requester's identity, which the server adds when a request crosses accounts."""
    SCHEDULE = "Nats-Schedule"
    SCHEDULE_TARGET = "Nats-Schedule-Target"
    SCHEDULE_TIME_ZONE = "Nats-Schedule-Time-Zone"
    SCHEDULER = "Nats-Scheduler"
    """The subject of the schedule that a message was made by."""
    SCHEDULE_NEXT = "Nats-Schedule-Next"
    """When the schedule makes the next message, `purge` after the last."""
    STREAM_SOURCE = "Nats-Stream-Source"
    """The stream and the sequence that a sourced message comes from."""
    SERVICE_ERROR = "Nats-Service-Error"
    SERVICE_ERROR_CODE = "Nats-Service-Error-Code"
    KV_OPERATION = "KV-Operation"
    """Marks a message that is no value, such as that of a deleted key."""


def bucket_stream(bucket: str) -> str:
    """The stream of a key-value bucket."""
    return f"KV_{bucket}"


def bucket_subject(bucket: str, key: str) -> str:
    """The subject of a bucket's key; that may be a wildcard."""
    return f"$KV.{bucket}.{key}"
