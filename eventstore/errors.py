"""All errors of this library, as one tree; each has a code, and says if a retry can help.

EventStoreError
├── ConfigurationError              a setting is missing, unknown, malformed or incomplete
│   └── MasterKeyError              the master key of a key of personal data is not known
├── ClientError                     the connection to NATS
│   ├── ConnectFailed               no server answered at the first connect
│   ├── AuthenticationFailed        the server refused the credentials
│   ├── ConnectionLost              the connection broke while an answer was awaited
│   ├── RequestTimeout              no answer in time
│   │   └── InvalidAnswer           an answer that no server gives; it counts as no answer
│   ├── NoResponders                no responders on the subject
│   │   └── NoJetStream             the server, or the account there, has no JetStream
│   ├── PermissionDenied            this user has no permission for the subject
│   ├── JetStreamError              an error answer of JetStream
│   └── QueueFull                   the command queue is full; this command was refused
├── ServerError                     the nats-server itself
│   ├── ServerNotFound              no nats-server binary found
│   ├── ServerTooOld                older than the store supports
│   └── ServerStartFailed           it did not become ready
├── TopologyError                   streams and buckets
│   ├── StreamDrift                 a stream's settings differ from the declared ones
│   ├── ForeignStream               a stream belongs to another application
│   └── StreamMissing               a stream does not exist
├── InvalidMessage                  a message that may not be sent, or cannot be decoded
│   ├── InvalidSubject              a subject or a token of one
│   ├── InvalidId                   an aggregate id or a message id
│   ├── InvalidHeader               a header is missing, malformed or contradicts another
│   ├── UnknownType                 no such command, event or aggregate is registered
│   ├── InvalidPayload              the payload does not fit its type
│   ├── UnsupportedSchema           this code cannot read the payload's schema version
│   ├── CommandIdReused             the command's id belongs to another command
│   └── KeyMissing                  a key of personal data is missing, though not forgotten
├── DeciderError                    a decider is defined incorrectly (a bug)
├── HandlerFailed                   a decider's function raised another error than a rejection
├── Rejected                        the domain rejected a command
├── AppendError                     events could not be recorded
│   ├── Conflict                    the aggregate is not at the expected version
│   ├── AppendUnknown               whether they were recorded is unknown
│   ├── DuplicateId                 an event id is already used by another event
│   ├── EventTooLarge               headers and payload exceed the server's maximum
│   ├── BatchTooLarge               more events than fit one atomic batch
│   └── SubjectForgotten            personal data about somebody who was forgotten
├── CorruptLog                      the log violates an invariant
│   ├── VersionGap                  an aggregate's versions are not consecutive
│   ├── IncompleteBatch             an atomic batch is not complete
│   └── UnreadableEvent             an event cannot be decoded
├── InvalidAnchor                   an anchor is malformed, wrongly signed or of another log
├── UnusableSnapshot                a snapshot cannot be used or made; the log is read
├── TransferError                   export, import and copy
│   ├── DamagedFile                 an export file is incomplete, or was changed
│   └── ImportRefused               the file may not be imported into this log
├── CommandTimeout                  no outcome in time; the command is still accepted
├── QueryError                      a query was answered with an error
│   ├── QueryNotFound               nothing has this id
│   ├── QueryTimeout                the read model did not reach the awaited position in time
│   ├── QueryRefused                the service refused, with a code of its own
│   ├── AnswerTooLarge              the answer does not fit into one message
│   └── ServiceBusy                 the service has too many requests; this one was refused
├── ParkedError                     parked messages
│   ├── NotParked                   no message is parked there, or not completely
│   ├── RetryOutOfOrder             an older message of the same aggregate is parked
│   └── RetryFailed                 the event could not be handled this time either
└── ProjectionError                 the read side
    ├── ProjectionFailed            a handler or its statements failed on an event
    ├── ProjectionFenced            another worker moved this projection's checkpoint
    └── MigrationError              the read-model database does not have the required schema
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

__all__ = [
    "AnswerTooLarge",
    "AppendError",
    "AppendUnknown",
    "AuthenticationFailed",
    "BatchTooLarge",
    "ClientError",
    "CommandIdReused",
    "CommandTimeout",
    "ConfigurationError",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "CorruptLog",
    "DamagedFile",
    "DeciderError",
    "DuplicateId",
    "EventStoreError",
    "EventTooLarge",
    "ForeignStream",
    "HandlerFailed",
    "ImportRefused",
    "IncompleteBatch",
    "InvalidAnchor",
    "InvalidAnswer",
    "InvalidHeader",
    "InvalidId",
    "InvalidMessage",
    "InvalidPayload",
    "InvalidSubject",
    "JetStreamError",
    "KeyMissing",
    "MasterKeyError",
    "MigrationError",
    "NoJetStream",
    "NoResponders",
    "NotParked",
    "ParkedError",
    "PermissionDenied",
    "ProjectionError",
    "ProjectionFailed",
    "ProjectionFenced",
    "QueryError",
    "QueryNotFound",
    "QueryRefused",
    "QueryTimeout",
    "QueueFull",
    "Rejected",
    "RequestTimeout",
    "RetryFailed",
    "RetryOutOfOrder",
    "ServerError",
    "ServerNotFound",
    "ServerStartFailed",
    "ServerTooOld",
    "ServiceBusy",
    "StreamDrift",
    "StreamMissing",
    "SubjectForgotten",
    "TopologyError",
    "TransferError",
    "UnknownType",
    "UnreadableEvent",
    "UnsupportedSchema",
    "UnusableSnapshot",
    "VersionGap",
]


class EventStoreError(Exception):
    """The root of the tree.

    `code` is stable and for programs; the text is for people and may change. `retryable` says
    whether the same call may succeed later without any change.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str = "", retryable: bool | None = None) -> None:
        """Set both from the class statement; what is left out is inherited."""
        super().__init_subclass__()
        cls.code = code or cls.code
        cls.retryable = cls.retryable if retryable is None else retryable


class ConfigurationError(EventStoreError, code="configuration"):
    """A setting is missing, unknown, malformed or incomplete; the text names it and its source."""


class MasterKeyError(ConfigurationError, code="master_key"):
    """No master key is configured, or not the one that wrapped a key of personal data.

    Nobody was forgotten: everything is readable with the right master key.
    """


class ClientError(EventStoreError, code="client"):
    """The connection to NATS, or a request over it, failed."""


class ConnectFailed(ClientError, code="connect_failed", retryable=True):
    """No server answered at the first connect."""


class AuthenticationFailed(ClientError, code="authentication_failed"):
    """The server refused the credentials."""


class ConnectionLost(ClientError, code="connection_lost", retryable=True):
    """The connection broke, or was closed, while an answer was awaited."""


class RequestTimeout(ClientError, code="request_timeout", retryable=True):
    """There was no answer in time; the request may have been processed all the same."""


class InvalidAnswer(RequestTimeout, code="invalid_answer"):
    """The answer is malformed, or does not match the request; it counts as no answer.

    No server answers so: somebody else who may publish to the inbox has, or the server is too old
    or too new. The request may have been processed.
    """


class NoResponders(ClientError, code="no_responders", retryable=True):
    """Nobody is subscribed to the subject: JetStream is disabled, or no service runs."""


class NoJetStream(NoResponders, code="no_jetstream", retryable=False):
    """JetStream is not enabled on the server, or not for this user's account."""


class PermissionDenied(ClientError, code="permission_denied"):
    """The user has no permission to publish or subscribe to the subject."""


class JetStreamError(ClientError, code="jetstream"):
    """JetStream answered with an error.

    `err_code` is the server's error code, such as 10071, `status` its HTTP-like status. It is
    `retryable` if that is 500 or more: then not the request is at fault, but the server, which may
    have no leader at the moment.
    """

    retryable: bool  # type: ignore[misc]  # of the instance here, of the class elsewhere

    def __init__(self, err_code: int, status: int, description: str) -> None:
        super().__init__(f"JetStream error {err_code}: {description}")
        self.err_code = err_code
        self.status = status
        self.description = description
        self.retryable = status >= 500


class QueueFull(ClientError, code="queue_full", retryable=True):
    """The command queue is at its limit; the command was refused, and is not stored.

    `subject` is the command's.
    """

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"{subject}: the command queue is full, and this command was not accepted; send it "
            "again later, run more workers, or raise commands.queue_limit"
        )
        self.subject = subject


class ServerError(EventStoreError, code="server"):
    """The nats-server binary or process."""


class ServerNotFound(ServerError, code="server_not_found"):
    """No nats-server binary was found in any of the searched locations."""


class ServerTooOld(ServerError, code="server_too_old"):
    """The server is older than the store supports."""


class ServerStartFailed(ServerError, code="server_start_failed"):
    """The server did not become ready; the text ends with its log."""


class TopologyError(EventStoreError, code="topology"):
    """Streams and buckets are not as declared."""


class StreamDrift(TopologyError, code="stream_drift"):
    """A stream's settings differ from the declared ones.

    `differences` maps each setting's name to the pair (declared, found).
    """

    def __init__(self, stream: str, differences: Mapping[str, tuple[object, object]]) -> None:
        listed = "; ".join(
            f"{name} is {found!r}, declared {declared!r}"
            for name, (declared, found) in sorted(differences.items())
        )
        super().__init__(
            f"stream {stream} differs from its declaration: {listed}. "
            "Nothing was changed; change the stream or the declaration manually."
        )
        self.stream = stream
        self.differences = dict(differences)


class ForeignStream(TopologyError, code="foreign_stream"):
    """A stream belongs to another application.

    `owner` is that one's name, `application` the name of the one that met it.
    """

    def __init__(self, stream: str, *, owner: str, application: str) -> None:
        super().__init__(
            f"stream {stream} belongs to the application {owner}, not to {application}: give "
            f"{application} a subject prefix of its own (nats.subject_prefix), or another server. "
            "Nothing was changed."
        )
        self.stream = stream
        self.owner = owner
        self.application = application


class StreamMissing(TopologyError, code="stream_missing"):
    """A required stream or bucket does not exist."""


class InvalidMessage(EventStoreError, code="invalid_message"):
    """A message that may not be sent, or that cannot be decoded."""


class InvalidSubject(InvalidMessage, code="invalid_subject"):
    """A subject, or a token of one, breaks the rules of naming."""


class InvalidId(InvalidMessage, code="invalid_id"):
    """An aggregate id or a message id breaks the rules of naming."""


class InvalidHeader(InvalidMessage, code="invalid_header"):
    """A header is missing, malformed or contradicts another; `header` names it."""

    def __init__(self, header: str, problem: str) -> None:
        super().__init__(f"header {header} {problem}")
        self.header = header


class UnknownType(InvalidMessage, code="unknown_type"):
    """No such command, event or aggregate is registered."""


class InvalidPayload(InvalidMessage, code="invalid_payload"):
    """The payload is not JSON, or does not fit its type; the text names the field."""


class UnsupportedSchema(InvalidMessage, code="unsupported_schema"):
    """The payload has a schema version that the running code cannot read."""


class CommandIdReused(InvalidMessage, code="command_id_reused"):
    """The command's id was used before, for a different command; it is not executed.

    A command with another type, aggregate or payload is a different one, and needs an id of its
    own. Ids of its aggregate's facts, and of their causes, are used, too (`by_fact`).
    """

    def __init__(self, command_id: str, *, by_fact: bool = False) -> None:
        super().__init__(
            f"command id {command_id} was used before, for another command or a fact; this one "
            "was not carried out: send it with an id of its own"
        )
        self.command_id = command_id
        self.by_fact = by_fact


class KeyMissing(InvalidMessage, code="key_missing"):
    """A key of personal data is missing in its bucket, though its subject was not forgotten.

    Restore the bucket from a backup. Subjects forgotten since that backup must be forgotten again.
    """


class DeciderError(EventStoreError, code="decider"):
    """A decider is defined incorrectly; a bug, found at program start."""


class HandlerFailed(EventStoreError, code="handler_failed"):
    """A decider's function raised an error of this library other than `Rejected`.

    It is a failure of that function, as any other exception, and not one of the store.
    """


class Rejected(EventStoreError):
    """The domain rejected a command. Raised by deciders; an outcome, not a failure.

    The instance's `code` is the domain's own and part of its contract.
    """

    code: str  # type: ignore[misc]  # of the instance here, of the class elsewhere

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AppendError(EventStoreError, code="append"):
    """Events could not be recorded."""


class Conflict(AppendError, code="conflict", retryable=True):
    """The aggregate is not at the expected version; nothing was recorded.

    `expected` is the version the caller expected, `actual` the aggregate's (None if the server did
    not report it).
    """

    def __init__(
        self, aggregate: str, aggregate_id: str, expected: int, actual: int | None
    ) -> None:
        found = "another one" if actual is None else str(actual)
        super().__init__(
            f"{aggregate} {aggregate_id} was expected at version {expected}, but is at {found}; "
            "load it again, and decide on the new state"
        )
        self.aggregate = aggregate
        self.aggregate_id = aggregate_id
        self.expected = expected
        self.actual = actual


class AppendUnknown(AppendError, code="append_unknown", retryable=True):
    """Whether the events were recorded could not be determined in time.

    The same append, with the same event ids, can be retried at any later time: it is recorded once.
    """


class DuplicateId(AppendError, code="duplicate_id"):
    """An event id is already used by another event of the log; nothing was recorded."""


class EventTooLarge(AppendError, code="event_too_large"):
    """Headers, or headers and payload, exceed the server's maximum; nothing was sent.

    `size` and `limit` are bytes, `part` is "headers" or "headers and payload".
    """

    def __init__(self, event_type: str, part: str, size: int, limit: int) -> None:
        super().__init__(
            f"the {part} of {event_type} would have {size:,} bytes, and the maximum is {limit:,}"
        )
        self.event_type = event_type
        self.part = part
        self.size = size
        self.limit = limit


class BatchTooLarge(AppendError, code="batch_too_large"):
    """More events than fit one atomic batch; nothing was sent."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"{count:,} events in one append; at most {limit:,} are atomic")
        self.count = count
        self.limit = limit


class SubjectForgotten(AppendError, code="subject_forgotten"):
    """An event holds personal data about a subject who was forgotten; nothing was recorded.

    `subject` is its id, `time` (RFC 3339) when it was forgotten.
    """

    def __init__(self, subject: str, time: str, event_type: str, field: str) -> None:
        super().__init__(
            f"{subject} was forgotten at {time}: {event_type}.{field} would record personal data "
            "about them again; use a new id for a person who returns"
        )
        self.subject = subject
        self.time = time


class CorruptLog(EventStoreError, code="corrupt_log"):
    """The log violates an invariant."""


class VersionGap(CorruptLog, code="version_gap"):
    """An aggregate's versions are not consecutive."""


class IncompleteBatch(CorruptLog, code="incomplete_batch"):
    """The log contains only a part of an atomic batch."""


class UnreadableEvent(CorruptLog, code="unreadable_event"):
    """An event of the log cannot be decoded; `position` is its position, `cause` the reason.

    The text includes the event's type and id, if its `headers` have them.
    """

    def __init__(
        self,
        position: int,
        subject: str,
        cause: InvalidMessage,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        names = [(headers or {}).get(name, "")[:128] for name in ("X-Event-Type", "X-Event-ID")]
        event = " ".join(filter(None, names))
        super().__init__(
            f"event at position {position} ({subject}): {cause}" + (event and f" [{event}]")
        )
        self.position = position
        self.subject = subject
        self.cause = cause


class InvalidAnchor(EventStoreError, code="invalid_anchor"):
    """An anchor is malformed, wrongly signed, not by the expected key, or of another log."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the anchor cannot be used: {problem}")


class UnusableSnapshot(EventStoreError, code="unusable_snapshot"):
    """A snapshot cannot be used, or cannot be made; the log is read instead.

    `is_expected` says that other code made it, as happens at any deployment.
    """

    def __init__(self, problem: str, *, is_expected: bool = False) -> None:
        super().__init__(problem)
        self.is_expected = is_expected


class TransferError(EventStoreError, code="transfer"):
    """An export, import or copy failed."""


class DamagedFile(TransferError, code="damaged_file"):
    """An export file is incomplete, or was changed; `line` is the first bad one, from 1."""

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path = path
        self.line = line


class ImportRefused(TransferError, code="import_refused"):
    """The file may not, or no longer, be imported into this log."""


class CommandTimeout(EventStoreError, code="timeout", retryable=True):
    """There was no outcome in time. The command was accepted, and may still be executed.

    Sending it again with the same id is safe: it is executed once.
    """

    def __init__(self, command_id: str, seconds: float) -> None:
        super().__init__(
            f"command {command_id} was accepted, but has no outcome after {seconds:g} s; "
            "is a command worker running?"
        )
        self.command_id = command_id
        self.seconds = seconds


class QueryError(EventStoreError, code="query"):
    """A query was answered with an error instead of data; the text is the answer's."""


class QueryNotFound(QueryError, code="not_found"):
    """The queried item does not exist at the position that the answer reflects."""


class QueryTimeout(QueryError, code="timeout", retryable=True):
    """The read model did not reach the awaited position in time."""


class QueryRefused(QueryError, code="refused"):
    """The service answered with an error of its own, with its `code` and `message`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code  # type: ignore[misc]  # of the instance here, of the class elsewhere
        self.message = message


class AnswerTooLarge(QueryError, code="answer_too_large"):
    """The answer does not fit into one message: request less, with a smaller limit for example."""


class ServiceBusy(QueryError, code="busy", retryable=True):
    """The service has too many requests, and refused this one."""


class ParkedError(EventStoreError, code="parked"):
    """Handling a parked message failed."""


class NotParked(ParkedError, code="not_parked"):
    """No message is parked at this sequence, or some of its parts are missing."""

    def __init__(self, sequence: int, problem: str = "nothing is parked there") -> None:
        super().__init__(f"parked message {sequence}: {problem}")
        self.sequence = sequence


class RetryOutOfOrder(ParkedError, code="retry_out_of_order"):
    """An older message of the same aggregate is parked; `older` is its sequence."""

    def __init__(self, sequence: int, older: int) -> None:
        super().__init__(
            f"parked message {sequence} is not retried: {older}, of the same aggregate, is older; "
            "retry or discard that one first"
        )
        self.sequence = sequence
        self.older = older


class RetryFailed(ParkedError, code="retry_failed"):
    """The retry of a parked event did not succeed, as far as is known; it is still parked."""

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"parked message {sequence} is still parked: {why}")
        self.sequence = sequence


class ProjectionError(EventStoreError, code="projection"):
    """The read side failed."""


class ProjectionFailed(ProjectionError, code="projection_failed"):
    """A handler, or the statements it returned, failed on an event; the text names both."""


class ProjectionFenced(ProjectionError, code="projection_fenced"):
    """Another worker moved this projection's checkpoint; this one must stop."""


class MigrationError(ProjectionError, code="migration"):
    """The read-model database does not have the required schema."""
