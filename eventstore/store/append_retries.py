"""Append retries: which errors are retried, and after which delay."""

from __future__ import annotations

from eventstore.concurrency.backoff import Backoff
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    JetStreamError,
    NoResponders,
    RequestTimeout,
)
from eventstore.jetstream.vocabulary import TRANSIENT, ErrorCode

_BACKOFF = Backoff(0.04, 0.5)
_MAX_UNANSWERED = 25  # about ten seconds: a new leader takes that long
_MAX_INCOMPLETE = 3


class AppendRetries:
    """Counts the failed attempts of an append, and gives the delay before the next one."""

    def __init__(self) -> None:
        self.last: ClientError | None = None
        self.silent_conflicts = 0
        self.claims = 0
        self._unanswered = 0
        self.incomplete = 0
        self._failures = 0

    def delay_after(self, error: ClientError) -> float:
        """Seconds to wait before the next attempt; raises the error if that cannot help."""
        self.last = error
        if isinstance(error, RequestTimeout | ConnectionLost):
            return self._longer()
        if isinstance(error, NoResponders) and self._unanswered < _MAX_UNANSWERED:
            self._unanswered += 1
            return self._longer()
        if isinstance(error, JetStreamError) and error.err_code in TRANSIENT:
            is_incomplete = error.err_code == ErrorCode.BATCH_INCOMPLETE
            if is_incomplete and self.incomplete == _MAX_INCOMPLETE:
                raise error
            self.incomplete += is_incomplete
            return self._longer()
        raise error

    def delay_after_conflict(self) -> float:
        """Seconds to wait before looking for the conflicting event."""
        self.silent_conflicts += 1
        return 0.0 if self.silent_conflicts == 1 else self._longer()

    def delay_after_claim(self) -> float:
        """Seconds to wait before another look for an id that the server says is used."""
        self.claims += 1
        return self._longer()

    def _longer(self) -> float:
        self._failures += 1
        return _BACKOFF.delay(self._failures)
