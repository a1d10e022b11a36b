"""Every error this library raises, as one tree; each knows its code and whether a retry can help.

EventStoreError
├── ConfigurationError              a setting is missing, unknown, malformed or half given
│   └── MasterKeyError              the master key of a key of personal data is not known
├── ClientError                     the connection to NATS
│   ├── ConnectFailed               no server answered at the first connect
│   ├── AuthenticationFailed        the server refused the credentials
│   ├── ConnectionLost              the connection broke while an answer was awaited
│   ├── RequestTimeout              no answer within the bound
│   │   └── InvalidAnswer           an answer that the server does not give, which counts as none
│   ├── NoResponders                nobody listens on the subject
│   │   └── NoJetStream             the server, or the account there, has no JetStream
│   ├── PermissionDenied            the server forbids the subject to this user
│   ├── JetStreamError              JetStream answered with an error of its own
│   └── QueueFull                   as many commands wait as are allowed to; this one was refused
├── ServerError                     the nats-server itself
│   ├── ServerNotFound              no nats-server binary found
│   ├── ServerTooOld                older than the store can trust
│   └── ServerStartFailed           it did not become ready
├── TopologyError                   streams and buckets
│   ├── StreamDrift                 a stream's settings differ from the declared ones
│   └── StreamMissing               a stream is not there
├── InvalidMessage                  something that may not be sent, or cannot be understood
│   ├── InvalidSubject              a subject or a token of one
│   ├── InvalidId                   an aggregate id or a message id
│   ├── InvalidHeader               a header is missing, malformed or contradicts another
│   ├── UnknownType                 no such command, event or aggregate is registered
│   ├── InvalidPayload              the payload does not fit its type
│   ├── UnsupportedSchema           the payload's schema version cannot be read by this code
│   ├── CommandIdReused             the command's id belongs to another command
│   └── KeyMissing                  a key of personal data is gone, and nobody was forgotten
├── DeciderError                    a decider is put together wrongly (a mistake in code)
├── HandlerFailed                   a decider's function raised an error that is no rejection
├── Rejected                        the domain's answer: no
├── AppendError                     events could not be recorded
│   ├── Conflict                    the aggregate is not at the expected version
│   ├── AppendUnknown               whether they were recorded could not be found out in time
│   ├── DuplicateId                 an event id is already used by another event
│   ├── EventTooLarge               headers and payload exceed what the server takes
│   ├── BatchTooLarge               more events than fit one atomic batch
│   └── SubjectForgotten            personal data about somebody who was forgotten
├── CorruptLog                      what was read breaks a promise of the log
│   ├── VersionGap                  an aggregate's versions are not counted up one by one
│   ├── IncompleteBatch             an atomic batch is not complete
│   └── UnreadableEvent             an event cannot be understood
├── InvalidAnchor                   an anchor is garbled, badly signed or of another log
├── UnusableSnapshot                a snapshot cannot be trusted, or not be made; the log is read
├── TransferError                   a store is exported, imported or copied
│   ├── DamagedFile                 an export file is not whole, or was changed
│   └── ImportRefused               the log is not one this file may be imported into
├── CommandTimeout                  no outcome within the bound; the command stays accepted
├── QueryError                      a query was answered with an error
│   ├── QueryNotFound               there is nothing of this id
│   ├── QueryTimeout                the read model did not reach the awaited position in time
│   ├── QueryRefused                the service says no; the code is its own
│   ├── AnswerTooLarge              the answer does not fit into one message
│   └── ServiceBusy                 too many others ask; this one was not looked at
├── ParkedError                     the messages that are parked
│   ├── NotParked                   no message is parked there, or not whole
│   ├── RetryOutOfOrder             an older message of the same aggregate is parked
│   └── RetryFailed                 an event was not handled this time either
└── ProjectionError                 the read side
    ├── ProjectionFailed            a handler or its statements failed on an event
    ├── ProjectionFenced            another worker moved this projection's checkpoint
    └── MigrationError              the read-model database does not have the schema this code needs
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

    `code` is stable and meant for programs; the text is meant for people and may change.
    `retryable` says whether the same call may succeed later without anything being changed.
    """

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False


class ConfigurationError(EventStoreError):
    """A setting is missing, unknown, malformed or half given; the text names it and its source."""

    code = "configuration"


class MasterKeyError(ConfigurationError):
    """No master key is configured, or not the one that wrapped a key of personal data.

    Nobody was forgotten: with the right master key everything can be read again.
    """

    code = "master_key"


class ClientError(EventStoreError):
    """Something between this process and NATS."""

    code = "client"


class ConnectFailed(ClientError):
    """No server answered at the first connect."""

    code = "connect_failed"
    retryable = True


class AuthenticationFailed(ClientError):
    """The server refused the credentials."""

    code = "authentication_failed"


class ConnectionLost(ClientError):
    """The connection broke, or was closed, while an answer was awaited."""

    code = "connection_lost"
    retryable = True


class RequestTimeout(ClientError):
    """No answer came within the bound; what was asked may still have been done."""

    code = "request_timeout"
    retryable = True


class InvalidAnswer(RequestTimeout):
    """What was answered is malformed, or not about what was asked; it counts as no answer.

    No server answers so: somebody else has, who may publish to the inbox, or the server is too
    old or too new. What was asked may have been done.
    """

    code = "invalid_answer"


class NoResponders(ClientError):
    """Nobody listens on the subject: JetStream is off there, or no service runs."""

    code = "no_responders"
    retryable = True


class NoJetStream(NoResponders):
    """JetStream is not enabled on the server, or not for this user's account there."""

    code = "no_jetstream"
    retryable = False


class PermissionDenied(ClientError):
    """The server forbids this subject to this user."""

    code = "permission_denied"


class JetStreamError(ClientError):
    """JetStream answered with an error of its own.

    `err_code` is the server's number (10071 and the like), `status` its HTTP-like class. It is
    `retryable` where that is 500 or more: not the request is at fault then, but the server, which
    may have no leader at the moment.
    """

    code = "jetstream"
    retryable: bool  # type: ignore[misc]  # of the instance here, of the class elsewhere

    def __init__(self, err_code: int, status: int, description: str) -> None:
        super().__init__(f"JetStream error {err_code}: {description}")
        self.err_code = err_code
        self.status = status
        self.description = description
        self.retryable = status >= 500


class QueueFull(ClientError):
    """As many commands wait as the queue's limit allows; this one was refused, nothing is stored.

    `subject` is the command's.
    """

    code = "queue_full"
    retryable = True

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"{subject}: the command queue is full, and this command was not accepted; send it "
            "again later, run more workers, or raise commands.queue_limit"
        )
        self.subject = subject


class ServerError(EventStoreError):
    """The nats-server itself."""

    code = "server"


class ServerNotFound(ServerError):
    """No nats-server binary was found in any of the places that were searched."""

    code = "server_not_found"


class ServerTooOld(ServerError):
    """The server is older than the store can trust."""

    code = "server_too_old"


class ServerStartFailed(ServerError):
    """The server did not become ready; the text ends with what it logged."""

    code = "server_start_failed"


class TopologyError(EventStoreError):
    """Streams and buckets are not as declared."""

    code = "topology"


class StreamDrift(TopologyError):
    """A stream's settings differ from the declared ones.

    `differences` maps each setting's name to the pair (declared, found).
    """

    code = "stream_drift"

    def __init__(self, stream: str, differences: Mapping[str, tuple[object, object]]) -> None:
        listed = "; ".join(
            f"{name} is {found!r}, declared {declared!r}"
            for name, (declared, found) in sorted(differences.items())
        )
        super().__init__(
            f"stream {stream} differs from its declaration: {listed}. "
            "Nothing was changed; change the stream or the declaration by hand."
        )
        self.stream = stream
        self.differences = dict(differences)


class StreamMissing(TopologyError):
    """A stream or bucket that is needed is not there."""

    code = "stream_missing"


class InvalidMessage(EventStoreError):
    """Something that may not be sent, or that cannot be understood."""

    code = "invalid_message"


class InvalidSubject(InvalidMessage):
    """A subject, or a token of one, breaks the rules of naming."""

    code = "invalid_subject"


class InvalidId(InvalidMessage):
    """An aggregate id or a message id breaks the rules of naming."""

    code = "invalid_id"


class InvalidHeader(InvalidMessage):
    """A header is missing, malformed or contradicts another; `header` names it."""

    code = "invalid_header"

    def __init__(self, header: str, problem: str) -> None:
        super().__init__(f"header {header} {problem}")
        self.header = header


class UnknownType(InvalidMessage):
    """No such command, event or aggregate is registered."""

    code = "unknown_type"


class InvalidPayload(InvalidMessage):
    """The payload is not JSON, or does not fit its type; the text names the field."""

    code = "invalid_payload"


class UnsupportedSchema(InvalidMessage):
    """The payload's schema version cannot be read by this code."""

    code = "unsupported_schema"


class CommandIdReused(InvalidMessage):
    """The command's id was used before, for a command that is not the same; it is not carried out.

    Another type, another aggregate or another payload make another command: give it an id of its
    own. Ids of its aggregate's facts, and of what caused them, are used, too (`by_fact`).
    """

    code = "command_id_reused"

    def __init__(self, command_id: str, *, by_fact: bool = False) -> None:
        super().__init__(
            f"command id {command_id} was used before, for another command or a fact; this one "
            "was not carried out: send it with an id of its own"
        )
        self.command_id = command_id
        self.by_fact = by_fact


class KeyMissing(InvalidMessage):
    """A key of personal data is not in its bucket, though no subject was forgotten there.

    Restore the bucket from a backup: what was forgotten since stays so only if done again.
    """

    code = "key_missing"


class DeciderError(EventStoreError):
    """A decider is put together wrongly; a mistake in code, found when the program starts."""

    code = "decider"


class HandlerFailed(EventStoreError):
    """A decider's function raised one of this library's errors that is no rejection.

    It is a failure of that function, as any other exception is, and says nothing of the store.
    """

    code = "handler_failed"


class Rejected(EventStoreError):
    """The domain's answer: no. Raised by deciders; an outcome, not a failure.

    The instance's `code` is the domain's own and part of its contract.
    """

    code: str  # type: ignore[misc]  # of the instance here, of the class elsewhere

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AppendError(EventStoreError):
    """Events could not be recorded."""

    code = "append"


class Conflict(AppendError):
    """The aggregate is not at the expected version; nothing was recorded.

    `expected` is the version the caller expected, `actual` the one the aggregate has (None where
    the server did not say).
    """

    code = "conflict"
    retryable = True

    def __init__(
        self, aggregate: str, aggregate_id: str, expected: int, actual: int | None
    ) -> None:
        found = "another one" if actual is None else str(actual)
        super().__init__(
            f"{aggregate} {aggregate_id} was expected at version {expected}, but is at {found}; "
            "load it again and decide anew"
        )
        self.aggregate = aggregate
        self.aggregate_id = aggregate_id
        self.expected = expected
        self.actual = actual


class AppendUnknown(AppendError):
    """Whether the events were recorded could not be found out in time.

    The same append, with the same event ids, can be sent again at any later time: it is recorded
    once.
    """

    code = "append_unknown"
    retryable = True


class DuplicateId(AppendError):
    """An event id is already used by another event of the log; nothing was recorded."""

    code = "duplicate_id"


class EventTooLarge(AppendError):
    """Headers, or headers and payload, exceed what the server takes; nothing was sent.

    `size` and `limit` are bytes, `part` is "headers" or "headers and payload".
    """

    code = "event_too_large"

    def __init__(self, event_type: str, part: str, size: int, limit: int) -> None:
        super().__init__(
            f"the {part} of {event_type} would have {size:,} bytes; the server takes {limit:,}"
        )
        self.event_type = event_type
        self.part = part
        self.size = size
        self.limit = limit


class BatchTooLarge(AppendError):
    """More events than fit one atomic batch; nothing was sent."""

    code = "batch_too_large"

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"{count:,} events in one append; at most {limit:,} are atomic")
        self.count = count
        self.limit = limit


class SubjectForgotten(AppendError):
    """An event holds personal data about a subject who was forgotten; nothing was recorded.

    `subject` is its id, `time` (RFC 3339) when it was forgotten.
    """

    code = "subject_forgotten"

    def __init__(self, subject: str, time: str, event_type: str, field: str) -> None:
        super().__init__(
            f"{subject} was forgotten at {time}: {event_type}.{field} would record personal data "
            "about them again; use a new id for who comes back"
        )
        self.subject = subject
        self.time = time


class CorruptLog(EventStoreError):
    """What was read breaks a promise of the log."""

    code = "corrupt_log"


class VersionGap(CorruptLog):
    """An aggregate's versions are not 1, 2, 3 and so on."""

    code = "version_gap"


class IncompleteBatch(CorruptLog):
    """An atomic batch is in the log in part only."""

    code = "incomplete_batch"


class UnreadableEvent(CorruptLog):
    """An event of the log cannot be understood; `position` names it, `cause` says why.

    The text names the event's type and id, too, as far as its `headers` tell them.
    """

    code = "unreadable_event"

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


class InvalidAnchor(EventStoreError):
    """An anchor is garbled, badly signed, not by the expected key, or of another log."""

    code = "invalid_anchor"

    def __init__(self, problem: str) -> None:
        super().__init__(f"the anchor cannot be used: {problem}")


class UnusableSnapshot(EventStoreError):
    """A snapshot cannot be trusted, or cannot be made; the log is read instead.

    `is_expected` says that it was made by other code, as any deployment leads to.
    """

    code = "unusable_snapshot"

    def __init__(self, problem: str, *, is_expected: bool = False) -> None:
        super().__init__(problem)
        self.is_expected = is_expected


class TransferError(EventStoreError):
    """A store cannot be exported, imported or copied like this."""

    code = "transfer"


class DamagedFile(TransferError):
    """An export file is not whole, or was changed; `line` is the first that shows it, from 1."""

    code = "damaged_file"

    def __init__(self, path: str, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path = path
        self.line = line


class ImportRefused(TransferError):
    """The log is not one that this file may be imported into, or no longer."""

    code = "import_refused"


class CommandTimeout(EventStoreError):
    """No outcome within the bound. The command was accepted and may still be carried out.

    Sending it again with the same id is safe: it is carried out once.
    """

    code = "timeout"
    retryable = True

    def __init__(self, command_id: str, seconds: float) -> None:
        super().__init__(
            f"command {command_id} was accepted, but has no outcome after {seconds:g} s; "
            "is a command worker running?"
        )
        self.command_id = command_id
        self.seconds = seconds


class QueryError(EventStoreError):
    """A query was answered with an error instead of data; the text is the answer's."""

    code = "query"


class QueryNotFound(QueryError):
    """What the query asks for is not there, or not yet at the position that the answer reflects."""

    code = "not_found"


class QueryTimeout(QueryError):
    """The read model did not reach the position that the query waits for in time."""

    code = "timeout"
    retryable = True


class QueryRefused(QueryError):
    """The service answered with an error of its own, whose `code` and `message` these are."""

    code = "refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code  # type: ignore[misc]  # of the instance here, of the class elsewhere
        self.message = message


class AnswerTooLarge(QueryError):
    """The answer does not fit into one message: ask for less, by a smaller limit for example."""

    code = "answer_too_large"


class ServiceBusy(QueryError):
    """Too many others ask this service, so that it did not look at the request."""

    code = "busy"
    retryable = True


class ParkedError(EventStoreError):
    """Something about messages that are parked."""

    code = "parked"


class NotParked(ParkedError):
    """No message is parked at this sequence, or not all of its parts are there."""

    code = "not_parked"

    def __init__(self, sequence: int, problem: str = "nothing is parked there") -> None:
        super().__init__(f"parked message {sequence}: {problem}")
        self.sequence = sequence


class RetryOutOfOrder(ParkedError):
    """An older message of the same aggregate is parked; `older` is its sequence."""

    code = "retry_out_of_order"

    def __init__(self, sequence: int, older: int) -> None:
        super().__init__(
            f"parked message {sequence} is not retried: {older}, of the same aggregate, is older; "
            "retry or discard that one first"
        )
        self.sequence = sequence
        self.older = older


class RetryFailed(ParkedError):
    """A parked event was not handled, as far as is known, and stays parked."""

    code = "retry_failed"

    def __init__(self, sequence: int, why: str) -> None:
        super().__init__(f"parked message {sequence} is still parked: {why}")
        self.sequence = sequence


class ProjectionError(EventStoreError):
    """The read side."""

    code = "projection"


class ProjectionFailed(ProjectionError):
    """A handler, or the statements it returned, failed on an event; the text names both."""

    code = "projection_failed"


class ProjectionFenced(ProjectionError):
    """Another worker moved this projection's checkpoint; this one must stop."""

    code = "projection_fenced"


class MigrationError(ProjectionError):
    """The read-model database does not have the schema this code needs."""

    code = "migration"
