"""Commands, events, queries and their envelope, and untrusted text made safe to show.

Pure: nothing here waits or connects, and only `utc_now` and `new_id` are not deterministic.
"""

from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, Identity, derive_id, new_id
from eventstore.messages.events import NewEvent, RecordedEvent, StoredEvent, UnreadEvent
from eventstore.messages.opaque import OpaqueEvent
from eventstore.messages.outcome import Outcome
from eventstore.messages.personal import Personal
from eventstore.messages.queries import Listed, ListQuery, Query
from eventstore.messages.subjects import Subject, Subjects
from eventstore.messages.types import Command, Event
from eventstore.messages.undecodable import UNDECODABLE

__all__ = [
    "UNDECODABLE",
    "Codec",
    "Command",
    "Envelope",
    "Event",
    "Identity",
    "ListQuery",
    "Listed",
    "NewEvent",
    "OpaqueEvent",
    "Outcome",
    "Personal",
    "Query",
    "RecordedEvent",
    "StoredEvent",
    "Subject",
    "Subjects",
    "UnreadEvent",
    "derive_id",
    "new_id",
]
