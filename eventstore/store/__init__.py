"""Append to and read the log of one domain.

The only writer of `{DOMAIN}_LOG`, except for an import, which fills one that is empty.
"""

from eventstore.store.foreign import ForeignMessage
from eventstore.store.keyring import Keyring
from eventstore.store.publisher import EventPublisher
from eventstore.store.reader import Page
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

__all__ = [
    "ANY",
    "NOTHING",
    "NO_STREAM",
    "Append",
    "Appended",
    "EventPublisher",
    "EventStore",
    "Expected",
    "ForeignMessage",
    "Head",
    "Keyring",
    "Page",
]
