"""Errors of reading the log, and of what is derived from it."""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.errors.base import EventStoreError
from eventstore.errors.messages import InvalidMessage


class InvalidRange(EventStoreError, code="invalid_range"):
    """What is to be read is no range: negative, of no event, or ending before it begins."""


class CorruptLog(EventStoreError, code="corrupt_log"):
    """The log violates an invariant."""


class LogDiverged(CorruptLog, code="log_diverged"):
    """The log no longer has what was seen of it: it went back, or has another history.

    `position` is where it differs. `was` is what was there, and `now` what is there now, or where
    the log ends, in words; `seen_by` says who has seen it.
    """

    def __init__(self, stream: str, position: int, was: str, now: str, seen_by: str) -> None:
        super().__init__(
            f"the log {stream} went back, or is another: at position {position} was {was}, as "
            f"{seen_by} has seen, and {now}. It was restored from an older copy, or has lost its "
            "end. Nothing is decided and nothing is published; see what is affected with "
            "`eventstore recover`, or restore a newer copy"
        )
        self.stream = stream
        self.position = position
        self.was = was
        self.now = now
        self.seen_by = seen_by


class VersionGap(CorruptLog, code="version_gap"):
    """An aggregate's versions are not consecutive."""


class IncompleteBatch(CorruptLog, code="incomplete_batch"):
    """The log contains only a part of an atomic batch."""


class UnreadableEvent(CorruptLog, code="unreadable_event"):
    """An event of the log cannot be decoded; `position` is its position, `cause` the reason.

    The text includes the event's type and id, if its `headers` have them.
    """

    def __init__(
        self,
        position: int,
        subject: str,
        cause: InvalidMessage,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        names = [(headers or {}).get(name, "")[:128] for name in ("X-Event-Type", "X-Event-ID")]
        event = " ".join(filter(None, names))
        super().__init__(
            f"event at position {position} ({subject}): {cause}" + (event and f" [{event}]")
        )
        self.position = position
        self.subject = subject
        self.cause = cause


class InvalidAnchor(EventStoreError, code="invalid_anchor"):
    """An anchor is malformed, wrongly signed, not by the expected key, or of another log."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the anchor cannot be used: {problem}")


class UnusableSnapshot(EventStoreError, code="unusable_snapshot"):
    """A snapshot cannot be used, or cannot be made; the log is read instead.

    `is_expected` says that other code made it, as happens at any deployment.
    """

    def __init__(self, problem: str, *, is_expected: bool = False) -> None:
        super().__init__(problem)
        self.is_expected = is_expected
