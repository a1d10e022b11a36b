"""Appends: the expectation, the events with their ids, and the result."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec

from eventstore.messages.envelope import Identity
from eventstore.messages.events import NewEvent
from eventstore.messages.subjects import AggregateId
from eventstore.messages.types import Event
from eventstore.store.head import Head


class Expectation(enum.Enum):
    """A named expectation."""

    NO_STREAM = "no_stream"
    STREAM_EXISTS = "stream_exists"
    ANY = "any"


NO_STREAM = Expectation.NO_STREAM
"""The aggregate must have no events yet."""

STREAM_EXISTS = Expectation.STREAM_EXISTS
"""The aggregate must have events, and may be at any version."""

ANY = Expectation.ANY
"""The aggregate may be at any version."""


Expected = int | Head | Expectation
"""A version (0: no events), a head (saves a round trip if the store knows it), `NO_STREAM`,
`STREAM_EXISTS` or `ANY`."""

ANY_VERSION = (ANY, STREAM_EXISTS)
"""The expectations that others' events do not violate."""


class Append(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events to be appended to one aggregate.

    `cause` is the identity of the message that they follow from: their ids are then derived from
    it, from the aggregate and from their order, so that a repeat is recognised for ever.
    `known_new`: the caller has read the aggregate up to `expected` itself and found none of these
    ids there, which saves the search for them. `authenticated_as`, `command_digest` and
    `traceparent` are recorded with each event (see `Envelope`).
    """

    aggregate: str
    aggregate_id: AggregateId
    events: Sequence[Event | NewEvent]
    expected: Expected = ANY
    cause: Identity | None = None
    actor: str | None = None
    known_new: bool = False
    authenticated_as: str | None = None
    command_digest: str | None = None
    traceparent: str | None = None


class AppendResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of an append for one aggregate.

    `head` is the aggregate's head after these events, though others may have followed since;
    `positions` are the events' sequences in the log. `duplicate`: they had been recorded before.
    """

    aggregate: str
    aggregate_id: str
    head: Head
    event_ids: tuple[str, ...]
    positions: tuple[int, ...]
    duplicate: bool

    @property
    def version(self) -> int:
        """The aggregate's version after the last of these events."""
        return self.head.version

    @property
    def position(self) -> int:
        """The position of the last of these events, which a reader must have reached."""
        return self.positions[-1]
