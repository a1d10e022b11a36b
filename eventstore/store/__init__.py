"""Append to and read the log of one domain, with optimistic concurrency.

The only writer of `{DOMAIN}_LOG`, except for an import, which writes to an empty one.
"""

from eventstore.store.append import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Append,
    AppendResult,
    Expected,
)
from eventstore.store.foreign import ForeignMessage
from eventstore.store.head import NOTHING, Head
from eventstore.store.keyring import Keyring
from eventstore.store.log_mark import LogMark
from eventstore.store.publisher import EventPublisher
from eventstore.store.store import EventStore
from eventstore.store.tail import Page

__all__ = [
    "ANY",
    "NOTHING",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Append",
    "AppendResult",
    "EventPublisher",
    "EventStore",
    "Expected",
    "ForeignMessage",
    "Head",
    "Keyring",
    "LogMark",
    "Page",
]
