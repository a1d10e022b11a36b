"""What happened to one aggregate: its events, what each changed, and its state at any time.

Made of the log alone: the events are folded by the decider that decided them, and the chain is
followed on the way. What was forged is passed over, as by every reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any

from eventstore.audit.chain_check import ChainReport, ChainWalk
from eventstore.audit.diff import Change, changes, plain
from eventstore.audit.queries import HistoryView, StepView, StopView
from eventstore.client.client import Client
from eventstore.decider.decider import Decider, Domain
from eventstore.errors import InvalidMessage, UnreadableEvent
from eventstore.jetstream.direct_get import DirectReader, StoredMessage
from eventstore.messages.encryption import Keys
from eventstore.messages.envelope import Header, LogEvent, UnreadEvent, legal_value
from eventstore.store.chain_links import GENESIS_LINKS, follow
from eventstore.store.keyring import Keyring
from eventstore.store.reader import read_stored_event

__all__ = ["aggregate_history"]

_MOST_FOREIGN = 100


async def aggregate_history(
    client: Client,
    domain: Domain,
    aggregate: str,
    aggregate_id: str,
    *,
    at: int | datetime | None = None,
    limit: int | None = None,
) -> HistoryView:
    """Read and fold an aggregate up to a version, or up to and with a time; all of it if None.

    At most the last `limit` steps are kept. An aggregate without events has version 0 and the
    initial state.

    Raises `UnknownType` for an aggregate that the domain does not know, `InvalidId`, and
    `ClientError`. A break of the chain is not raised, but told; and so is an event that cannot be
    understood, with which the fold ends.
    """
    past = _Past(domain, aggregate, at, limit)
    subject = domain.codec.subjects.log(aggregate, aggregate_id)
    walk = ChainWalk()
    keyring = Keyring(client, domain.codec.subjects)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keyring.close)
        reader = DirectReader(client, domain.codec.subjects.log_stream)
        await stack.enter_async_context(reader)
        foreign = await _foreign(reader, subject)
        messages = await stack.enter_async_context(aclosing(reader.messages(subject)))
        async for message in messages:
            walk.see(message)
            if message.sequence not in foreign:
                past.see(message, await keyring.to_open([message.headers]))
    return HistoryView(
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        version=past.version,
        state=plain(past.state),
        steps=tuple(past.steps),
        earlier=past.parts - len(past.steps),
        later=walk.version - past.taken - len(foreign),
        stopped=past.stopped,
        chain=ChainReport(
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            events=walk.version,
            position=walk.position,
            problem=walk.problem,
        ),
        foreign=tuple(sorted(foreign)[:_MOST_FOREIGN]),
    )


async def _foreign(reader: DirectReader, subject: str) -> set[int]:
    """The positions that no reader takes for events: nothing follows on what stands there.

    What was changed, and then built upon, is none of them: it is folded as it stands, and told.
    """
    found: set[int] = set()
    links = GENESIS_LINKS
    async with aclosing(reader.messages(subject)) as messages:
        async for message in messages:
            links, problem, confirmed = follow(links, message)
            if problem is not None:
                found.add(message.sequence)
            elif confirmed is not None:
                found.discard(confirmed.position)
    return found


class _Past:
    """The fold, as far as it is wanted."""

    def __init__(
        self, domain: Domain, aggregate: str, at: int | datetime | None, limit: int | None
    ) -> None:
        self._codec = domain.codec
        self._decider: Decider[Any] = domain.decider(aggregate)
        self._at = at
        self._over = False
        self.state = self._decider.initial()
        self._shown = plain(self.state)
        self.steps: deque[StepView] = deque(maxlen=limit)
        self.stopped: StopView | None = None
        self.version = 0
        self.taken = self.parts = 0

    def see(self, message: StoredMessage, keys: Keys) -> None:
        if self._over:
            return
        try:
            found = read_stored_event(self._codec, message, keys)
            parts: Sequence[LogEvent] = [found] if isinstance(found, UnreadEvent) else found
            self._over = self._is_later(parts[0].version, parts[0].time)
            if not self._over:
                self._take(parts, message)
        except UnreadableEvent as error:
            self._stop(message, error)

    def _take(self, parts: Sequence[LogEvent], message: StoredMessage) -> None:
        state, shown = self.state, self._shown
        steps = []
        for part in parts:
            state = self._evolved(state, part, message)
            before, shown = shown, plain(state)
            steps.append(_step(part, changes(before, shown)))
        self.state, self._shown = state, shown
        self.steps += steps
        self.version = parts[0].version
        self.taken += 1
        self.parts += len(steps)

    def _evolved(self, state: Any, event: LogEvent, message: StoredMessage) -> Any:
        if isinstance(event, UnreadEvent):
            if event.error is not None:
                raise UnreadableEvent(message.sequence, message.subject, event.error)
            return state
        try:
            return self._decider.evolve(state, event.data)
        except Exception as error:  # a forged event may break any assumption of the domain
            cause = InvalidMessage(f"it does not follow on the events before it: {error!r}")
            raise UnreadableEvent(message.sequence, message.subject, cause) from error

    def _stop(self, message: StoredMessage, error: UnreadableEvent) -> None:
        """Go no further than right before this event."""
        headers = message.headers
        version = int(legal_value(headers, Header.AGGREGATE_VERSION) or self.version + 1)
        self._over = True
        if not self._is_later(version, None):
            self.stopped = StopView(
                type=legal_value(headers, Header.EVENT_TYPE),
                version=version,
                position=message.sequence,
                reason=str(error.cause),
            )

    def _is_later(self, version: int, time: datetime | None) -> bool:
        """Whether an event came after what is wanted; at a time that is not known it did not."""
        if isinstance(self._at, int):
            return version > self._at
        return self._at is not None and time is not None and time > self._at


def _step(event: LogEvent, changed: tuple[Change, ...]) -> StepView:
    data = None if isinstance(event, UnreadEvent) else plain(event.data)
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
        data=data,
        changes=changed,
        dropped=isinstance(event, UnreadEvent),
    )
