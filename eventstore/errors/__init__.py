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
│   │   ├── NoJetStream             the server, or the account there, has no JetStream
│   │   └── NoLeader                the stream has no leader at the moment
│   ├── PermissionDenied            this user has no permission for the subject
│   ├── JetStreamError              an error answer of JetStream
│   ├── PullLost                    a consumer lost messages, or itself
│   │   └── SubscriberLost          the consumer of a running subscriber was deleted
│   └── QueueFull                   the command queue is full; this command was refused
├── ServerError                     the nats-server itself
│   ├── ServerNotFound              no nats-server binary found
│   ├── ServerTooOld                older than the store supports
│   └── ServerStartFailed           it did not become ready
├── ReadSideFailed                  the second process of a service ended, or did not start
├── TopologyError                   streams and buckets
│   ├── StreamDrift                 a stream's settings differ from the declared ones
│   ├── ForeignStream               a stream belongs to another application
│   ├── StreamMissing               a stream does not exist
│   └── LogMissing                  the log is gone, and what was made from it is not
├── InvalidMessage                  a message that may not be sent, or cannot be decoded
│   ├── InvalidSubject              a subject or a token of one
│   ├── InvalidId                   an aggregate id or a message id
│   ├── InvalidHeader               a header is missing, malformed or contradicts another
│   ├── UnknownType                 no such command, event or aggregate is registered
│   ├── InvalidPayload              the payload does not fit its type
│   ├── InvalidLockFile             a file is not a lock file that can be imported
│   ├── UnsupportedSchema           this code cannot read the payload's schema version
│   ├── CommandIdReused             the command's id belongs to another command
│   ├── KeyMissing                  a key of personal data is missing, though not forgotten
│   ├── InvalidTimer                a timer's name, time or recurrence is wrong
│   │   └── TimerInPast             its time has passed
│   └── NoTimer                     no timer of this name is waiting
├── DeciderError                    a decider is defined incorrectly (a bug)
├── HandlerFailed                   a decider's function raised another error than a rejection
├── Rejected                        the domain rejected a command
├── CommandTimeout                  no outcome in time; the command is still accepted
├── AppendError                     events could not be recorded
│   ├── Conflict                    the aggregate is not at the expected version
│   ├── AppendUnknown               whether they were recorded is unknown
│   ├── DuplicateId                 an event id is already used by another event
│   ├── EventTooLarge               headers and payload exceed the server's maximum
│   ├── BatchTooLarge               more events than fit one atomic batch
│   └── SubjectForgotten            personal data about somebody who was forgotten
├── BlockingCallRefused             inside of an event loop, or on a facade that is not open
├── InvalidRange                    what is to be read is no range of versions or positions
├── CorruptLog                      the log violates an invariant
│   ├── LogDiverged                 the log went back: it no longer has what was seen of it
│   ├── VersionGap                  an aggregate's versions are not consecutive
│   ├── IncompleteBatch             an atomic batch is not complete
│   └── UnreadableEvent             an event cannot be decoded
├── InvalidAnchor                   an anchor is malformed, wrongly signed or of another log
├── UnusableSnapshot                a snapshot cannot be used or made; the log is read
├── TransferError                   export, import, copy and backup
│   ├── DamagedFile                 an export file is incomplete, or was changed
│   ├── RecoveryRefused             nothing may be recovered now
│   ├── ImportRefused               the file may not be imported into this log
│   ├── BackupDamaged               a backup is incomplete, or was changed
│   └── RestoreRefused              the backup may not be restored here
├── QueryError                      a query was answered with an error
│   ├── QueryNotFound               nothing has this id
│   ├── QueryTimeout                the read model did not reach the awaited position in time
│   ├── QueryRefused                the service refused, with a code of its own
│   ├── AnswerTooLarge              the answer does not fit into one message
│   ├── HistoryTooLong              more events than allowed would have to be read
│   └── ServiceBusy                 the service has too many requests; this one was refused
├── ParkedError                     parked messages
│   ├── NotParked                   no message is parked there, or not completely
│   ├── RetryOutOfOrder             an older message of the same aggregate is parked
│   └── RetryFailed                 the event could not be handled this time either
├── SubscriberError                 subscribers of the event stream
│   ├── SubscriberContinued         another name has taken over its position
│   ├── UnknownSubscriber           no subscriber of this name has run
│   ├── EventsGone                  the event stream no longer has the events to start with
│   └── NoSuchPosition              the log has not reached the position to start after
├── ProcessError                    a process cannot react to an event, which is parked
│   ├── ProcessLoop                 it has reacted too often within one correlation
│   ├── ProcessWaits                it has failed at an earlier event
│   └── UnknownProcess              there is no process of this name, or of this key
└── ProjectionError                 the read side
    ├── ProjectionFailed            a handler or its statements failed on an event
    │   └── PoisonEvent             a projection cannot take an event
    ├── ProjectionFenced            another worker moved this projection's checkpoint
    │   ├── OwnedElsewhere          another process has the lock
    │   └── CheckpointReset         its rows or its checkpoint were replaced
    ├── VersionChanged              the rows are of another version of the projection
    ├── OtherLog                    the rows were built from another log
    ├── WaitTimeout                 the read model did not reach a position in time
    ├── FeedLost                    it is unknown up to where events were published
    ├── NoAuditIndex                the database has no audit index
    ├── CannotReplace               a rebuild would change rows or tables of others
    ├── DatabaseUnavailable         the database is locked, full, damaged or unreachable
    └── MigrationError              the read-model database does not have the required schema
        └── SchemaBusy              another database is being migrated in this process
"""

from eventstore.errors.append import (
    AppendError,
    AppendUnknown,
    BatchTooLarge,
    Conflict,
    DuplicateId,
    EventTooLarge,
    SubjectForgotten,
)
from eventstore.errors.base import EventStoreError
from eventstore.errors.blocking import BlockingCallRefused
from eventstore.errors.commands import CommandTimeout, DeciderError, HandlerFailed, Rejected
from eventstore.errors.configuration import ConfigurationError, MasterKeyError
from eventstore.errors.connection import (
    AuthenticationFailed,
    ClientError,
    ConnectFailed,
    ConnectionLost,
    InvalidAnswer,
    JetStreamError,
    NoJetStream,
    NoLeader,
    NoResponders,
    PermissionDenied,
    PullLost,
    QueueFull,
    RequestTimeout,
    SubscriberLost,
)
from eventstore.errors.log import (
    CorruptLog,
    IncompleteBatch,
    InvalidAnchor,
    InvalidRange,
    LogDiverged,
    UnreadableEvent,
    UnusableSnapshot,
    VersionGap,
)
from eventstore.errors.messages import (
    CommandIdReused,
    InvalidHeader,
    InvalidId,
    InvalidLockFile,
    InvalidMessage,
    InvalidPayload,
    InvalidSubject,
    KeyMissing,
    UnknownType,
    UnsupportedSchema,
)
from eventstore.errors.parked import NotParked, ParkedError, RetryFailed, RetryOutOfOrder
from eventstore.errors.processes import (
    ProcessError,
    ProcessLoop,
    ProcessWaits,
    UnknownProcess,
)
from eventstore.errors.projections import (
    CannotReplace,
    CheckpointReset,
    DatabaseUnavailable,
    FeedLost,
    MigrationError,
    NoAuditIndex,
    OtherLog,
    OwnedElsewhere,
    PoisonEvent,
    ProjectionError,
    ProjectionFailed,
    ProjectionFenced,
    SchemaBusy,
    VersionChanged,
    WaitTimeout,
)
from eventstore.errors.queries import (
    AnswerTooLarge,
    HistoryTooLong,
    QueryError,
    QueryNotFound,
    QueryRefused,
    QueryTimeout,
    ServiceBusy,
)
from eventstore.errors.server import (
    ForeignStream,
    LogMissing,
    ReadSideFailed,
    ServerError,
    ServerNotFound,
    ServerStartFailed,
    ServerTooOld,
    StreamDrift,
    StreamMissing,
    TopologyError,
)
from eventstore.errors.subscribers import (
    EventsGone,
    NoSuchPosition,
    SubscriberContinued,
    SubscriberError,
    UnknownSubscriber,
)
from eventstore.errors.timers import InvalidTimer, NoTimer, TimerInPast
from eventstore.errors.transfer import (
    BackupDamaged,
    DamagedFile,
    ImportRefused,
    RecoveryRefused,
    RestoreRefused,
    TransferError,
)

__all__ = [
    "AnswerTooLarge",
    "AppendError",
    "AppendUnknown",
    "AuthenticationFailed",
    "BackupDamaged",
    "BatchTooLarge",
    "BlockingCallRefused",
    "CannotReplace",
    "CheckpointReset",
    "ClientError",
    "CommandIdReused",
    "CommandTimeout",
    "ConfigurationError",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "CorruptLog",
    "DamagedFile",
    "DatabaseUnavailable",
    "DeciderError",
    "DuplicateId",
    "EventStoreError",
    "EventTooLarge",
    "EventsGone",
    "FeedLost",
    "ForeignStream",
    "HandlerFailed",
    "HistoryTooLong",
    "ImportRefused",
    "IncompleteBatch",
    "InvalidAnchor",
    "InvalidAnswer",
    "InvalidHeader",
    "InvalidId",
    "InvalidLockFile",
    "InvalidMessage",
    "InvalidPayload",
    "InvalidRange",
    "InvalidSubject",
    "InvalidTimer",
    "JetStreamError",
    "KeyMissing",
    "LogDiverged",
    "LogMissing",
    "MasterKeyError",
    "MigrationError",
    "NoAuditIndex",
    "NoJetStream",
    "NoLeader",
    "NoResponders",
    "NoSuchPosition",
    "NoTimer",
    "NotParked",
    "OtherLog",
    "OwnedElsewhere",
    "ParkedError",
    "PermissionDenied",
    "PoisonEvent",
    "ProcessError",
    "ProcessLoop",
    "ProcessWaits",
    "ProjectionError",
    "ProjectionFailed",
    "ProjectionFenced",
    "PullLost",
    "QueryError",
    "QueryNotFound",
    "QueryRefused",
    "QueryTimeout",
    "QueueFull",
    "ReadSideFailed",
    "RecoveryRefused",
    "Rejected",
    "RequestTimeout",
    "RestoreRefused",
    "RetryFailed",
    "RetryOutOfOrder",
    "SchemaBusy",
    "ServerError",
    "ServerNotFound",
    "ServerStartFailed",
    "ServerTooOld",
    "ServiceBusy",
    "StreamDrift",
    "StreamMissing",
    "SubjectForgotten",
    "SubscriberContinued",
    "SubscriberError",
    "SubscriberLost",
    "TimerInPast",
    "TopologyError",
    "TransferError",
    "UnknownProcess",
    "UnknownSubscriber",
    "UnknownType",
    "UnreadableEvent",
    "UnsupportedSchema",
    "UnusableSnapshot",
    "VersionChanged",
    "VersionGap",
    "WaitTimeout",
]
