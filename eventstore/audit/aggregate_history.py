"""The history of one aggregate: its events, what each changed, and the state at any time.

Read from the log alone: the events are folded by the aggregate's decider, and the chain is verified
on the way. Forged messages are skipped, as by every reader.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime
from typing import Any

import msgspec

from eventstore.audit.chain_check import ChainReport, ChainWalk
from eventstore.audit.diff import plain
from eventstore.audit.history_fold import HistoryFold
from eventstore.audit.history_starts import KEPT_EVERY, HistoryStart, HistoryStarts
from eventstore.audit.queries import GetHistory, HistoryView
from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import HistoryTooLong, QueryNotFound, UnreadableEvent
from eventstore.jetstream.direct_get import SEARCH_SECONDS, DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import POSITION
from eventstore.messages.queries import read_query
from eventstore.messages.subjects import AggregateId, check_aggregate_id
from eventstore.store.chain_links import GENESIS_LINKS, Link, Links, follow
from eventstore.store.foreign import link_of
from eventstore.store.head import Head, find_head
from eventstore.store.keyring import Keyring
from eventstore.store.snapshots import Snapshots
from eventstore.store.version_search import find_version, is_followed

_MAX_FOREIGN = 100
_NEAR = 2 * KEPT_EVERY  # versions that are read rather than what a step changed be left out
_SLACK = 8  # versions, any of which will do to begin with: the server is asked less often


async def aggregate_history(
    client: Client,
    domain: Domain,
    aggregate: str,
    aggregate_id: AggregateId,
    *,
    at: int | datetime | None = None,
    limit: int | None = None,
    starts: HistoryStarts | None = None,
    max_events: int | None = None,
) -> HistoryView:
    """Read and fold an aggregate up to a version, or up to and including a time; all of it if None.

    At most the last `limit` steps are returned. An aggregate without events has version 0 and the
    initial state. All events are read, once, and the chain is verified from the first to the last.

    With `starts`, reading begins at a snapshot or a kept state before what is returned, and ends
    with it, and so does the check of the chain, which is not `complete` then. If a snapshot is
    taken that is later than the first step, earlier steps have no changes (`HistoryView.began`).

    Raises `UnknownType` for an aggregate that the domain does not know, `InvalidId`, `ClientError`,
    and `HistoryTooLong` if more than `max_events` would have to be read. A broken chain is
    reported, not raised; so is an event that cannot be read, at which the fold ends.
    """
    aggregate_id = check_aggregate_id(aggregate_id)
    decider = domain.decider(aggregate)
    keyring = Keyring(client, domain.codec.subjects)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keyring.close)
        history = _History(client, domain, decider, aggregate_id, keyring, starts)
        return await history.view(at, limit, max_events)


def history_answers(
    client: Client, domain: Domain, snapshots: Snapshots | None = None
) -> dict[str, Answer]:
    """The endpoint of `GetHistory`, for a `Responder`.

    The position in `X-Position` is that of the aggregate's last event that was read.
    """
    starts = HistoryStarts(snapshots)

    async def answer(request: Request) -> Reply:
        query = read_query(GetHistory, request.payload)
        history = await aggregate_history(
            *(client, domain, query.aggregate, query.id),
            at=query.at,
            limit=query.limit,
            starts=starts if query.from_snapshot else None,
            max_events=query.max_events,
        )
        if not history.chain.position:
            raise QueryNotFound(f"{query.aggregate} {query.id} has no events")
        return Reply(msgspec.json.encode(history), {POSITION: str(history.chain.position)})

    subject = domain.codec.subjects.query(GetHistory.__aggregate__, GetHistory.__action__)
    return {subject: answer}


class _History:
    """Reads an aggregate, as often as it takes: usually once."""

    def __init__(
        self,
        client: Client,
        domain: Domain,
        decider: Decider[Any],
        aggregate_id: str,
        keyring: Keyring,
        starts: HistoryStarts | None,
    ) -> None:
        self._codec = domain.codec
        self._decider = decider
        self._id = aggregate_id
        self._keyring = keyring
        self._starts = starts
        self._subject = domain.codec.subjects.log(decider.aggregate, aggregate_id)
        stream = domain.codec.subjects.log_stream
        self._reader = DirectReader(client, stream, timeout=SEARCH_SECONDS)

    async def view(
        self, at: int | datetime | None, limit: int | None, max_events: int | None
    ) -> HistoryView:
        head = (await find_head(self._reader, self._subject, leader=True)).head
        last = min(at, head.version) if isinstance(at, int) else head.version
        first = 0 if limit is None else max(0, last - limit)
        nowhere = HistoryStart(self._decider.initial())
        starts, whole = self._starts, self._starts is None
        start = nowhere if starts is None else await self._start(starts, at, first, last)
        link = await self._link(start, first, head)
        self._check(head.version if whole else last, link.version, max_events)
        read = await self._read(at, limit, first, start, link, whole=whole)
        steps = read.fold
        if limit is not None and (shown := max(0, steps.version - limit)) < first:
            # It ended before the last version, at a time or at an event that cannot be read.
            again = self._kept(shown) or nowhere
            near, until = _link_to(again.head), steps.version
            steps = (await self._read(until, limit, shown, again, near, whole=False)).fold
        return self._made(read, steps, head, start, link)

    def _made(
        self, read: _Read, steps: HistoryFold, head: Head, start: HistoryStart, link: Link
    ) -> HistoryView:
        fold, walk, foreign = read.fold, read.walk, read.foreign or set()
        shown = tuple(steps.steps)
        is_whole = link.version == 0 and read.is_complete
        if is_whole and start.head.version == 0:
            earlier = fold.parts - len(shown)
            later = walk.version - fold.events - len(foreign)
        else:
            earlier = shown[0].version - 1 if shown else fold.version
            later = max(0, head.version - fold.version)
        return HistoryView(
            aggregate=self._decider.aggregate,
            aggregate_id=self._id,
            version=fold.version,
            state=plain(fold.state),
            steps=shown,
            earlier=earlier,
            later=later,
            began=start.head.version,
            stopped=fold.stopped,
            chain=ChainReport(
                aggregate=self._decider.aggregate,
                aggregate_id=self._id,
                events=walk.version - link.version,
                position=walk.position,
                problem=walk.problem,
                complete=is_whole,
            ),
            foreign=tuple(sorted(foreign)[:_MAX_FOREIGN]),
        )

    def _check(self, last: int, begin: int, max_events: int | None) -> None:
        if max_events is not None and last - begin > max_events:
            raise HistoryTooLong(
                f"{last - begin:,} events of {self._decider.aggregate} {self._id} would have to be "
                f"read, more than {max_events:,}: there is no nearer snapshot of it"
            )

    async def _start(
        self, starts: HistoryStarts, at: int | datetime | None, first: int, last: int
    ) -> HistoryStart:
        """The start to fold from: before the first step, unless a snapshot after it saves much."""
        kept = self._kept(at if isinstance(at, datetime) else first)
        if kept is not None and not await self._holds(kept.head):
            starts.forget(self._decider.aggregate, self._id)
            kept = None
        nearest = kept or HistoryStart(self._decider.initial())
        if isinstance(at, datetime) or last - nearest.head.version <= _NEAR:
            return nearest
        snapshot = await starts.snapshot(self._decider, self._id)
        if snapshot is None or not nearest.head.version < snapshot.head.version <= last:
            return nearest
        return snapshot

    def _kept(self, at: int | datetime) -> HistoryStart | None:
        return None if self._starts is None else self._starts.nearest(self._decider, self._id, at)

    async def _holds(self, head: Head) -> bool:
        """Whether the log has what a kept state was folded from; else none of them is of use."""
        found = await self._reader.at(head.position, leader=True)
        return found is not None and found.subject == self._subject and head.matches(found)

    async def _link(self, start: HistoryStart, first: int, head: Head) -> Link:
        """The event to read on after: that of the start, or one before the first step."""
        if start.head.version <= first:
            return _link_to(start.head)
        if first == 0:
            return GENESIS_LINKS.head
        lowest = max(1, first - _SLACK)
        wanted = self._reader, self._subject, lowest, first, _link_to(head)
        found = await find_version(*wanted)
        if found is None or not await is_followed(self._reader, found):
            return _link_to(start.head)
        return link_of(found) or _link_to(start.head)

    async def _read(
        self,
        at: int | datetime | None,
        limit: int | None,
        shown_after: int,
        start: HistoryStart,
        link: Link,
        *,
        whole: bool,
    ) -> _Read:
        """Read after a link to the end, or, if not the `whole`, until the fold is over."""
        fold = HistoryFold(
            *(self._codec, self._decider, at),
            shown_after=shown_after,
            limit=limit,
            state=start.state,
            version=start.head.version,
            latest=start.latest,
        )
        read = _Read(fold, ChainWalk(link))
        pages = self._reader.pages(self._subject, link.position, leader=True)
        async for page in pages:
            keys = await self._keyring.to_open(message.headers for message in page)
            for message in page:
                if await self._is_foreign(read, message):
                    continue
                fold.add(message, keys)
                if fold.version % KEPT_EVERY == 0 and not fold.is_over:
                    self._keep(fold, message)
            if fold.is_over and not whole:
                read.is_complete = False
                break
        return read

    def _keep(self, fold: HistoryFold, message: StoredMessage) -> None:
        with suppress(UnreadableEvent):
            head = Head.of(message)
            if self._starts is not None and head.version == fold.version:
                start = HistoryStart(fold.state, head, fold.latest)
                self._starts.keep(self._codec, self._decider, self._id, start)

    async def _is_foreign(self, read: _Read, message: StoredMessage) -> bool:
        """Whether readers skip a message: none does until the first that does not follow."""
        before = read.walk.links
        problem = read.walk.add(message)
        if problem is not None and read.foreign is None:
            read.foreign = await _foreign(self._reader, message, before)
        return read.foreign is not None and message.sequence in read.foreign


class _Read:
    """What one read has found: `foreign` is None while every message follows."""

    def __init__(self, fold: HistoryFold, walk: ChainWalk) -> None:
        self.fold = fold
        self.walk = walk
        self.foreign: set[int] | None = None
        self.is_complete = True


def _link_to(head: Head) -> Link:
    return Link(head.version, head.chain, head.position)


async def _foreign(reader: DirectReader, first: StoredMessage, links: Links) -> set[int]:
    """The positions of messages that readers skip: no later event is chained to them.

    From the first message that does not follow. A changed event that later ones are chained to is
    not among them: it is folded and reported.
    """
    foreign: set[int] = set()
    async with aclosing(reader.messages(first.subject, first.sequence - 1)) as messages:
        async for message in messages:
            links, problem, confirmed = follow(links, message)
            if problem is not None:
                foreign.add(message.sequence)
            elif confirmed is not None:
                foreign.discard(confirmed.position)
    return foreign
