"""Errors of the read side."""

from __future__ import annotations

from typing import Any

from eventstore.errors.base import EventStoreError


class ProjectionError(EventStoreError, code="projection"):
    """The read side failed."""


class ProjectionFailed(ProjectionError, code="projection_failed"):
    """A handler, or the statements it returned, failed on an event; the text names both."""


class PoisonEvent(ProjectionFailed):
    """A projection cannot take an event: it is unreadable, or its handler or a statement fails.

    `projection`, `event_type`, `event_id` and `position` name both, and `recorded` is the event;
    `reason` is the failure by itself, in one line, and the cause is chained.
    """

    def __init__(self, projection: str, recorded: Any, reason: str) -> None:
        super().__init__(
            f"projection {projection} stopped before {recorded.type} {recorded.id} "
            f"at position {recorded.position}: {reason}"
        )
        self.projection = projection
        self.recorded = recorded
        self.reason = reason
        self.event_type = recorded.type
        self.event_id = recorded.id
        self.position = recorded.position


class ProjectionFenced(ProjectionError, code="projection_fenced"):
    """Another worker moved this projection's checkpoint; this one must stop."""


class OwnedElsewhere(ProjectionFenced, code="owned_elsewhere", retryable=True):
    """Somebody else has the lock; `holder` says who."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"{name} is owned by {holder}; stop that first, or wait until it ends")
        self.holder = holder


class CheckpointReset(ProjectionFenced, code="checkpoint_reset"):
    """Somebody else replaced the rows or set the checkpoint: restart from there."""


class VersionChanged(ProjectionError, code="version_changed"):
    """The rows were made by another version of the projection; `known` is their checkpoint."""

    def __init__(self, projection: str, version: int, known: Any) -> None:
        super().__init__(
            f"projection {projection} is version {version}, but its rows were made "
            f"by version {known.version}; rebuild it, or use a new database, and it is built from "
            "the log"
        )
        self.known = known


class OtherLog(ProjectionError, code="other_log"):
    """The rows were built from another log than this one; `known` is their checkpoint."""

    def __init__(self, known: Any, log: str) -> None:
        super().__init__(
            f"projection {known.name} at position {known.position} was built from another log: "
            f"from {known.log}, and this one is {log}. Name another database with --database, or "
            "have all rows built from this log with `eventstore projection rebuild --all`"
        )
        self.known = known


class WaitTimeout(ProjectionError, TimeoutError, code="wait_timeout", retryable=True):
    """The read model has not reached a position in time; it may do so later.

    `position` was waited for, `reached` is the last position of all projections in question.
    """

    def __init__(self, position: int, reached: int, seconds: float) -> None:
        super().__init__(
            f"the read model is at position {reached}, not at {position}, after {seconds:g} s; "
            "wait longer, or see `eventstore projection list` for what holds it up"
        )
        self.position = position
        self.reached = reached
        self.seconds = seconds


class FeedLost(ProjectionError, code="feed_lost"):
    """The feed's position is lost, so that events could be published twice.

    The text says what to put under the key in the configuration bucket for the feed to continue.
    """


class NoAuditIndex(ProjectionError, code="no_audit_index"):
    """The database has no audit index, or one that was never built."""


class CannotReplace(ProjectionError, code="cannot_replace"):
    """The rows of a projection cannot be replaced without touching what is not the projection's."""


class DatabaseUnavailable(ProjectionError, code="database_unavailable", retryable=True):
    """The read-model database stayed locked, full, damaged or unreachable until the timeout."""

    is_damage = False


class MigrationError(ProjectionError, code="migration"):
    """The read-model database does not have the required schema."""


class SchemaBusy(MigrationError, code="schema_busy", retryable=True):
    """Another database is being migrated in this process; retry a moment later."""
