"""What happened to one aggregate: its events, what each changed, and its state at any time.

Made of the log alone: the events are folded by the decider that decided them, and the chain is
followed on the way.
"""

from __future__ import annotations

from collections import deque
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any

from eventstore.aggregate import Decider, Domain
from eventstore.audit.changes import changes, plain
from eventstore.audit.queries import HistoryView, StepView
from eventstore.audit.walk import ChainReport, ChainWalk
from eventstore.client import Client
from eventstore.direct import DirectReader, StoredMessage
from eventstore.envelope import Header, RecordedEvent, parse_timestamp
from eventstore.errors import InvalidMessage, UnreadableEvent
from eventstore.history import read_events
from eventstore.keyring import Keyring
from eventstore.sealing import Keys

__all__ = ["aggregate_history"]


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

    Raises `UnknownType` for an aggregate or an event that the domain does not know, `InvalidId`,
    `UnreadableEvent` for an event that cannot be understood, and `ClientError`. A break of the
    chain is not raised, but told.
    """
    past = _Past(domain, aggregate, at, limit)
    subject = domain.codec.subjects.log(aggregate, aggregate_id)
    walk = ChainWalk(aggregate_id)
    keyring = Keyring(client, domain.codec.subjects)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keyring.close)
        reader = DirectReader(client, domain.codec.subjects.log_stream)
        await stack.enter_async_context(reader)
        messages = await stack.enter_async_context(aclosing(reader.messages(subject)))
        async for message in messages:
            walk.see(message)
            past.see(message, await keyring.to_open([message.headers]))
    return HistoryView(
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        version=past.version,
        state=plain(past.state),
        steps=tuple(past.steps),
        earlier=past.parts - len(past.steps),
        later=walk.version - past.taken,
        chain=ChainReport(
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            events=walk.version,
            position=walk.position,
            problem=walk.problem,
        ),
    )


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
        self.version = 0
        self.taken = self.parts = 0

    def see(self, message: StoredMessage, keys: Keys) -> None:
        if self._over:
            return
        subject, headers, position = message.subject, message.headers, message.sequence
        events = read_events(self._codec, subject, headers, message.payload, position, keys=keys)
        version = int(headers[Header.AGGREGATE_VERSION])
        self._over = self._is_later(version, parse_timestamp(headers[Header.TIMESTAMP]))
        if self._over:
            return
        for event in events:
            self._take(event, message)
        self.version = version
        self.taken += 1
        self.parts += len(events)

    def _take(self, event: RecordedEvent, message: StoredMessage) -> None:
        self.state = self._evolved(event, message)
        shown = plain(self.state)
        self.steps.append(
            StepView(
                id=event.id,
                type=event.type,
                version=event.version,
                position=event.position,
                time=event.time,
                actor=event.envelope.actor,
                correlation_id=event.correlation_id,
                causation_id=event.causation_id,
                data=plain(event.data),
                changes=changes(self._shown, shown),
            )
        )
        self._shown = shown

    def _evolved(self, event: RecordedEvent, message: StoredMessage) -> Any:
        try:
            return self._decider.evolve(self.state, event.data)
        except Exception as error:  # a forged event may break any assumption of the domain
            cause = InvalidMessage(f"it does not follow on the events before it: {error!r}")
            raise UnreadableEvent(message.sequence, message.subject, cause) from error

    def _is_later(self, version: int, time: datetime) -> bool:
        if self._at is None:
            return False
        return version > self._at if isinstance(self._at, int) else time > self._at
