"""The fold of an aggregate's history: its state at a version or time, and what events changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from eventstore.audit.diff import Change, changes, plain
from eventstore.audit.queries import StepView, StopView
from eventstore.decider.decider import Decider
from eventstore.errors import InvalidMessage, UnreadableEvent
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.encryption import Keys
from eventstore.messages.events import LogEvent, UnreadEvent
from eventstore.messages.headers import Header, legal_value
from eventstore.store.aggregate_reading import read_stored_event


class HistoryFold:
    """Folds an aggregate up to `at`, a version or a time, which is then `is_over`.

    Steps are made of events after the version `shown_after`, as comparing states costs more than
    folding; at most `limit` are kept, the last ones. It begins with `state` after the event of
    `version`; of events up to there, there are steps without changes. `latest` is the latest time
    of the folded events.
    """

    def __init__(
        self,
        codec: Codec,
        decider: Decider[Any],
        at: int | datetime | None,
        *,
        shown_after: int,
        limit: int | None,
        state: Any,
        version: int,
        latest: datetime | None,
    ) -> None:
        self._codec = codec
        self._decider = decider
        self._at = at
        self._shown_after = shown_after
        self._begin = version
        self._plain: Any = None
        self._plain_version = -1
        self.is_over = False
        self.state = state
        self.steps: deque[StepView] = deque(maxlen=limit)
        self.stopped: StopView | None = None
        self.version = version
        self.latest = latest
        self.events = self.parts = 0

    def add(self, message: StoredMessage, keys: Keys) -> None:
        """Fold the next event, unless it is later than `at`, or one before could not be folded."""
        if self.is_over:
            return
        try:
            read = read_stored_event(self._codec, message, keys)
            parts: Sequence[LogEvent] = [read] if isinstance(read, UnreadEvent) else read
            self.is_over = self._is_later(parts[0].version, parts[0].time)
            if self.is_over:
                return
            if parts[0].version <= self._begin:
                self.steps += [_step(part, ()) for part in parts]
            else:
                self._add(parts, message)
        except UnreadableEvent as error:
            self._stop(message, error)

    def _add(self, parts: Sequence[LogEvent], message: StoredMessage) -> None:
        version, state, steps = parts[0].version, self.state, []
        is_shown = version > self._shown_after
        before = self._plain_state() if is_shown else None
        for part in parts:
            state = self._evolved(state, part, message)
            if is_shown:
                after = plain(state)
                steps.append(_step(part, changes(before, after)))
                before = after
        if is_shown:
            self._plain, self._plain_version = before, version
        self.state, self.version = state, version
        self.steps += steps
        times = [part.time for part in parts]
        self.latest = max(times if self.latest is None else [self.latest, *times])
        self.events += 1
        self.parts += len(parts)

    def _plain_state(self) -> Any:
        return self._plain if self._plain_version == self.version else plain(self.state)

    def _evolved(self, state: Any, event: LogEvent, message: StoredMessage) -> Any:
        if isinstance(event, UnreadEvent):
            if event.error is not None:
                raise UnreadableEvent(message.sequence, message.subject, event.error)
            return state
        try:
            return self._decider.evolve(state, event.data)
        except Exception as error:  # a forged event may violate any invariant of the domain
            cause = InvalidMessage(f"it does not follow on the events before it: {error!r}")
            raise UnreadableEvent(message.sequence, message.subject, cause) from error

    def _stop(self, message: StoredMessage, error: UnreadableEvent) -> None:
        """End the fold before this event."""
        headers = message.headers
        version = int(legal_value(headers, Header.AGGREGATE_VERSION) or self.version + 1)
        self.is_over = True
        if not self._is_later(version, None):
            self.stopped = StopView(
                type=legal_value(headers, Header.EVENT_TYPE),
                version=version,
                position=message.sequence,
                reason=str(error.cause),
            )

    def _is_later(self, version: int, time: datetime | None) -> bool:
        """Whether an event is later than requested; one whose time is not known is not."""
        if isinstance(self._at, int):
            return version > self._at
        return self._at is not None and time is not None and time > self._at


def _step(event: LogEvent, changed: tuple[Change, ...]) -> StepView:
    return StepView(
        id=event.id,
        type=event.type,
        version=event.version,
        position=event.position,
        time=event.time,
        actor=event.envelope.actor,
        authenticated_as=event.envelope.authenticated_as,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        data=None if isinstance(event, UnreadEvent) else plain(event.data),
        changes=changed,
        dropped=isinstance(event, UnreadEvent),
    )
