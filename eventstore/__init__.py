"""A JetStream event-sourcing store: decide, append, read, project, audit."""

from eventstore.application import Application, running
from eventstore.client.client import Client, connect
from eventstore.client.master_keys import KeyWrapping, MasterKeys, WrappedKey
from eventstore.client.queries import QueryAnswer, QueryClient
from eventstore.commands import (
    CommandClient,
    CommandHandler,
    CommandWorker,
    Outcome,
    Outcomes,
    SentCommand,
    StateCache,
)
from eventstore.config import Settings, load_settings
from eventstore.decider.decider import CommandContext, Decider, Decision, Domain
from eventstore.errors import Conflict, EventStoreError, Rejected
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.envelope import Identity
from eventstore.messages.events import NewEvent, RecordedEvent, StoredEvent
from eventstore.messages.personal import Personal
from eventstore.messages.queries import Listed, ListQuery, Query
from eventstore.messages.types import Command, Event
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.publisher import EventPublisher
from eventstore.store.reader import Page
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import (
    ANY,
    NO_STREAM,
    NOTHING,
    Append,
    Appended,
    EventStore,
    Expected,
    Head,
)
from eventstore.subscribers.subscriber import EventSubscriber

__all__ = [
    "ANY",
    "NOTHING",
    "NO_STREAM",
    "Append",
    "Appended",
    "Application",
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
    "Outcome",
    "Outcomes",
    "Page",
    "Personal",
    "Query",
    "QueryAnswer",
    "QueryClient",
    "RecordedEvent",
    "Rejected",
    "SentCommand",
    "Settings",
    "Snapshots",
    "StateCache",
    "StoredEvent",
    "WrappedKey",
    "connect",
    "declare",
    "load_settings",
    "running",
    "topology",
]
