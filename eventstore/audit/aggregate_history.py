"""The history of one aggregate: its events, what each changed, and the state at any time.

Read from the log alone: the events are folded by the aggregate's decider, and the chain is verified
on the way. Forged messages are skipped, as by every reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime
from typing import Any

import msgspec

from eventstore.audit.chain_check import ChainReport, ChainWalk
from eventstore.audit.diff import Change, changes, plain
from eventstore.audit.queries import GetHistory, HistoryView, StepView, StopView
from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import InvalidMessage, InvalidPayload, QueryNotFound, UnreadableEvent
from eventstore.jetstream.direct_get import SEARCH_SECONDS, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.encryption import Keys
from eventstore.messages.events import LogEvent, UnreadEvent
from eventstore.messages.headers import POSITION, Header, legal_value
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.store.aggregate_reading import read_stored_event
from eventstore.store.chain_links import GENESIS_LINKS, follow
from eventstore.store.keyring import Keyring

_MAX_FOREIGN = 100
_decode = msgspec.json.Decoder(GetHistory).decode


async def aggregate_history(
    client: Client,
    domain: Domain,
    aggregate: str,
    aggregate_id: AggregateId,
    *,
    at: int | datetime | None = None,
    limit: int | None = None,
) -> HistoryView:
    """Read and fold an aggregate up to a version, or up to and including a time; all of it if None.

    At most the last `limit` steps are returned. An aggregate without events has version 0 and the
    initial state.

    Raises `UnknownType` for an aggregate that the domain does not know, `InvalidId`, and
    `ClientError`. A broken chain is reported, not raised; so is an event that cannot be read, at
    which the fold ends.
    """
    aggregate_id = check_aggregate_id(aggregate_id)
    fold = _HistoryFold(domain, aggregate, at, limit)
    subject = domain.codec.subjects.log(aggregate, aggregate_id)
    walk = ChainWalk()
    keyring = Keyring(client, domain.codec.subjects)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keyring.close)
        stream = domain.codec.subjects.log_stream
        reader = DirectReader(client, stream, timeout=SEARCH_SECONDS)
        foreign = await _foreign(reader, subject)
        messages = await stack.enter_async_context(aclosing(reader.messages(subject)))
        async for message in messages:
            walk.add(message)
            if message.sequence not in foreign:
                fold.add(message, await keyring.to_open([message.headers]))
    return HistoryView(
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        version=fold.version,
        state=plain(fold.state),
        steps=tuple(fold.steps),
        earlier=fold.parts - len(fold.steps),
        later=walk.version - fold.events - len(foreign),
        stopped=fold.stopped,
        chain=ChainReport(
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            events=walk.version,
            position=walk.position,
            problem=walk.problem,
        ),
        foreign=tuple(sorted(foreign)[:_MAX_FOREIGN]),
    )


def history_answers(client: Client, domain: Domain) -> dict[str, Answer]:
    """The endpoint of `GetHistory`, for a `Responder`.

    The position in `X-Position` is that of the aggregate's last event.
    """

    async def answer(request: Request) -> Reply:
        try:
            query = _decode(request.payload)
        except UNDECODABLE as error:
            raise InvalidPayload(f"query GetHistory: {error}") from error
        history = await aggregate_history(
            client, domain, query.aggregate, query.id, at=query.at, limit=query.limit
        )
        if not history.chain.events:
            raise QueryNotFound(f"{query.aggregate} {query.id} has no events")
        return Reply(msgspec.json.encode(history), {POSITION: str(history.chain.position)})

    subject = domain.codec.subjects.query(GetHistory.__aggregate__, GetHistory.__action__)
    return {subject: answer}


async def _foreign(reader: DirectReader, subject: str) -> set[int]:
    """The positions of messages that readers skip: no later event is chained to them.

    A changed event that later ones are chained to is not among them: it is folded and reported.
    """
    foreign: set[int] = set()
    links = GENESIS_LINKS
    async with aclosing(reader.messages(subject)) as messages:
        async for message in messages:
            links, problem, confirmed = follow(links, message)
            if problem is not None:
                foreign.add(message.sequence)
            elif confirmed is not None:
                foreign.discard(confirmed.position)
    return foreign


class _HistoryFold:
    """Folds an aggregate up to a version or time."""

    def __init__(
        self, domain: Domain, aggregate: str, at: int | datetime | None, limit: int | None
    ) -> None:
        self._codec = domain.codec
        self._decider: Decider[Any] = domain.decider(aggregate)
        self._at = at
        self._is_over = False
        self.state = self._decider.initial()
        self._plain_state = plain(self.state)
        self.steps: deque[StepView] = deque(maxlen=limit)
        self.stopped: StopView | None = None
        self.version = 0
        self.events = self.parts = 0

    def add(self, message: StoredMessage, keys: Keys) -> None:
        if self._is_over:
            return
        try:
            read = read_stored_event(self._codec, message, keys)
            parts: Sequence[LogEvent] = [read] if isinstance(read, UnreadEvent) else read
            self._is_over = self._is_later(parts[0].version, parts[0].time)
            if not self._is_over:
                self._add(parts, message)
        except UnreadableEvent as error:
            self._stop(message, error)

    def _add(self, parts: Sequence[LogEvent], message: StoredMessage) -> None:
        state, plain_state = self.state, self._plain_state
        steps = []
        for part in parts:
            state = self._evolved(state, part, message)
            before, plain_state = plain_state, plain(state)
            steps.append(_step(part, changes(before, plain_state)))
        self.state, self._plain_state = state, plain_state
        self.steps += steps
        self.version = parts[0].version
        self.events += 1
        self.parts += len(steps)

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
        self._is_over = True
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
