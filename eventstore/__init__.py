"""An event-sourcing store on NATS JetStream: decide, append, read, project, audit.

The names here are enough for a first service. Further public names are in `__all__` of each package
below, and of the module `telemetry`. Everything else is private and may change.
"""

from eventstore.application import Application, running
from eventstore.client import (
    Client,
    KeyWrapping,
    MasterKeys,
    QueryAnswer,
    QueryClient,
    WrappedKey,
    connect,
)
from eventstore.commands import (
    CommandClient,
    CommandHandler,
    CommandWorker,
    Outcomes,
    ScheduledCommand,
    SentCommand,
    StateCache,
)
from eventstore.config import Settings, load_settings
from eventstore.decider import CommandContext, Decider, Decision, Domain
from eventstore.errors import Conflict, EventStoreError, Rejected
from eventstore.jetstream.topology import declare, topology
from eventstore.messages import (
    Command,
    Event,
    Identity,
    Listed,
    ListQuery,
    NewEvent,
    OpaqueEvent,
    Outcome,
    Personal,
    Query,
    RecordedEvent,
    StoredEvent,
)
from eventstore.processes import END, After, Cancel, Process, ProcessContext, Rejection, Send
from eventstore.server import EmbeddedServer
from eventstore.store import (
    ANY,
    NO_STREAM,
    NOTHING,
    STREAM_EXISTS,
    Append,
    AppendResult,
    EventPublisher,
    EventStore,
    Expected,
    Head,
    Page,
)
from eventstore.store.snapshots import Snapshots
from eventstore.subscribers import EventSubscriber, Subscriber

__all__ = [
    "ANY",
    "END",
    "NOTHING",
    "NO_STREAM",
    "STREAM_EXISTS",
    "After",
    "Append",
    "AppendResult",
    "Application",
    "Cancel",
    "Client",
    "Command",
    "CommandClient",
    "CommandContext",
    "CommandHandler",
    "CommandWorker",
    "Conflict",
    "Decider",
    "Decision",
    "Domain",
    "EmbeddedServer",
    "Event",
    "EventPublisher",
    "EventStore",
    "EventStoreError",
    "EventSubscriber",
    "Expected",
    "Head",
    "Identity",
    "KeyWrapping",
    "ListQuery",
    "Listed",
    "MasterKeys",
    "NewEvent",
    "OpaqueEvent",
    "Outcome",
    "Outcomes",
    "Page",
    "Personal",
    "Process",
    "ProcessContext",
    "Query",
    "QueryAnswer",
    "QueryClient",
    "RecordedEvent",
    "Rejected",
    "Rejection",
    "ScheduledCommand",
    "Send",
    "SentCommand",
    "Settings",
    "Snapshots",
    "StateCache",
    "StoredEvent",
    "Subscriber",
    "WrappedKey",
    "connect",
    "declare",
    "load_settings",
    "running",
    "topology",
]
