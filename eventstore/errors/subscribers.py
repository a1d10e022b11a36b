"""Errors of subscribers."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class SubscriberError(EventStoreError, code="subscriber"):
    """A subscriber cannot start, continue or be found."""


class SubscriberContinued(SubscriberError, code="subscriber_continued"):
    """Another name has taken over this subscriber's position, or cannot take over the other's."""


class UnknownSubscriber(SubscriberError, code="unknown_subscriber"):
    """No subscriber of this name has ever run."""


class EventsGone(SubscriberError, code="events_gone"):
    """The event stream no longer has all events after the position to start at.

    `position` was requested, `first` is the position of the first event that is left.
    """

    def __init__(self, stream: str, position: int, first: int) -> None:
        super().__init__(
            f"stream {stream} begins at position {first} of the log; the events from position "
            f"{position + 1} on are only in the log itself: "
            "start after a later position, or read them with a projection"
        )
        self.position = position
        self.first = first


class NoSuchPosition(SubscriberError, code="no_such_position"):
    """The log has not reached the position to start after; events up to it would be left out."""
