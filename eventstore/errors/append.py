"""Errors of appending events to the log."""

from __future__ import annotations

from eventstore.errors.base import EventStoreError


class AppendError(EventStoreError, code="append"):
    """Events could not be recorded."""


class Conflict(AppendError, code="conflict", retryable=True):
    """The aggregate is not at the expected version; nothing was recorded.

    `expected` is the version the caller expected (None: any, but some event), `actual` the
    aggregate's (None if the server did not report it).
    """

    def __init__(
        self, aggregate: str, aggregate_id: str, expected: int | None, actual: int | None
    ) -> None:
        found = "another one" if actual is None else str(actual)
        problem = f"was expected at version {expected}, but is at {found}"
        if expected is None:
            problem = "was expected to exist, but has no events"
        super().__init__(
            f"{aggregate} {aggregate_id} {problem}; load it again, and decide on the new state"
        )
        self.aggregate = aggregate
        self.aggregate_id = aggregate_id
        self.expected = expected
        self.actual = actual


class AppendUnknown(AppendError, code="append_unknown", retryable=True):
    """Whether the events were recorded could not be determined in time.

    The same append, with the same event ids, can be retried at any later time: it is recorded once.
    """


class DuplicateId(AppendError, code="duplicate_id"):
    """An event id is already used by another event of the log; nothing was recorded."""


class EventTooLarge(AppendError, code="event_too_large"):
    """Headers, or headers and payload, exceed the server's maximum; nothing was sent.

    `size` and `limit` are bytes, `part` is "headers" or "headers and payload".
    """

    def __init__(self, event_type: str, part: str, size: int, limit: int) -> None:
        super().__init__(
            f"the {part} of {event_type} would have {size:,} bytes, and the maximum is {limit:,}; "
            "record less in one event, or a reference to what is stored elsewhere"
        )
        self.event_type = event_type
        self.part = part
        self.size = size
        self.limit = limit


class BatchTooLarge(AppendError, code="batch_too_large"):
    """More events than fit one atomic batch; nothing was sent."""

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            f"{count:,} events in one append; at most {limit:,} are atomic: "
            "append them one part after another"
        )
        self.count = count
        self.limit = limit


class SubjectForgotten(AppendError, code="subject_forgotten"):
    """An event holds personal data about a subject who was forgotten; nothing was recorded.

    `subject` is its id, `time` (RFC 3339) when it was forgotten.
    """

    def __init__(self, subject: str, time: str, event_type: str, field: str) -> None:
        super().__init__(
            f"{subject} was forgotten at {time}: {event_type}.{field} would record personal data "
            "about them again; use a new id for a person who returns"
        )
        self.subject = subject
        self.time = time
