"""A JetStream event-sourcing store: decide, append, read, project, audit."""

import logging

from eventstore import visible
from eventstore.aggregate import CommandContext, Decider, Decision, Domain
from eventstore.application import Application, running
from eventstore.asking import Answered, QueryClient
from eventstore.client import Client, connect
from eventstore.commands import (
    CommandClient,
    CommandHandler,
    CommandWorker,
    KeptStates,
    Outcome,
    Outcomes,
    Sent,
)
from eventstore.config import Settings, load_settings
from eventstore.envelope import Identity, NewEvent, RecordedEvent, StoredEvent
from eventstore.errors import Conflict, EventStoreError, Rejected
from eventstore.facts import EventPublisher
from eventstore.history import Page
from eventstore.master_keys import KeyWrapping, MasterKeys, WrappedKey
from eventstore.messages import Command, Event
from eventstore.personal import Personal
from eventstore.queries import Listed, ListQuery, Query
from eventstore.server import EmbeddedServer
from eventstore.snapshots import Snapshots
from eventstore.store import ANY, NO_STREAM, NOTHING, Append, Appended, EventStore, Expected, Head
from eventstore.streams import declare, topology
from eventstore.subscribing import EventSubscriber

__all__ = [
    "ANY",
    "NOTHING",
    "NO_STREAM",
    "Answered",
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
    "KeptStates",
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
    "QueryClient",
    "RecordedEvent",
    "Rejected",
    "Sent",
    "Settings",
    "Snapshots",
    "StoredEvent",
    "WrappedKey",
    "connect",
    "declare",
    "load_settings",
    "running",
    "topology",
]

# All of the library logs to this one.
visible.make_log_records_safe(logging.getLogger("eventstore"))
