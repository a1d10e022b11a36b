"""A small domain for the tests of the command side, and all a command needs on one connection."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

import msgspec
from nats.js import JetStreamContext

from eventstore.application import running
from eventstore.client.client import Client, Msg
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes, StateCache
from eventstore.commands.decoding import DecodedCommand
from eventstore.commands.digest import digest_of
from eventstore.config import StreamSettings
from eventstore.decider.decider import CommandContext, Decider
from eventstore.decider.domain import Domain
from eventstore.errors import EventStoreError, Rejected
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.envelope import Envelope, Identity, format_timestamp, utc_now
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Command, Event
from eventstore.store.append import AppendResult
from eventstore.store.pending_append import PendingAppend
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore

FORGETFUL = StreamSettings(duplicate_window_ms=100)
"""Streams that take a command with the same id again after a tenth of a second."""


class Add(Command, subject="counter.add", creates=True):
    amount: int = 1


class AddEach(Command, subject="counter.add_each"):
    amounts: list[int]


class Take(Command, subject="counter.take"):
    amount: int


class RaiseTo(Command, subject="counter.raise_to"):
    total: int


class Sign(Command, subject="counter.sign", schema_version=2):
    """Records who decided it, and when."""


class Fail(Command, subject="counter.fail"):
    pass


class Decide(Command, subject="counter.decide"):
    """Decides what cannot be: "stray", "foreign", "huge" or "broken"."""

    what: str


class Refuse(Command, subject="counter.refuse"):
    """Is rejected with a message of this length."""

    length: int
    code: str = "refused"


class Added(Event, subject="counter.added"):
    amount: int


class Signed(Event, subject="counter.signed"):
    actor: str | None
    time: datetime


class Filled(Event, subject="counter.filled"):
    text: str


class Stray(Event, subject="counter.stray"):
    pass


class Counter(msgspec.Struct, frozen=True):
    total: int = 0


counter = Decider("counter", initial=Counter)


@counter.decides
def add(counter: Counter, command: Add) -> Added:
    return Added(amount=command.amount)


@counter.decides
def add_each(counter: Counter, command: AddEach) -> list[Added]:
    return [Added(amount=amount) for amount in command.amounts]


@counter.decides
def take(counter: Counter, command: Take) -> Added:
    if counter.total < command.amount:
        raise Rejected("too_little", f"there are {counter.total}, not {command.amount}")
    return Added(amount=-command.amount)


@counter.decides
def raise_to(counter: Counter, command: RaiseTo) -> Added | None:
    missing = command.total - counter.total
    return Added(amount=missing) if missing > 0 else None


@counter.decides
def sign(counter: Counter, command: Sign, context: CommandContext) -> Signed:
    return Signed(actor=context.actor, time=context.time)


@counter.decides
def fail(counter: Counter, command: Fail) -> None:
    raise RuntimeError("a decider's mistake")


@counter.decides
def refuse(counter: Counter, command: Refuse) -> None:
    raise Rejected(command.code, "\x00" * command.length)


@counter.decides
def decide(counter: Counter, command: Decide) -> Event:
    wrong: dict[str, Any] = {
        "stray": Stray(),
        "foreign": "no event at all",
        "huge": Filled(text="x" * 1_048_576),
        "broken": Filled(text=7),  # type: ignore[arg-type]
    }
    decided: Event = wrong[command.what]
    return decided


@counter.evolves
def added(counter: Counter, event: Added) -> Counter:
    return Counter(counter.total + event.amount)


@counter.evolves
def noted(counter: Counter, event: Signed | Filled) -> Counter:
    return counter


class Line:
    """A connection, and on it the store, the command client, and workers on demand."""

    def __init__(
        self,
        client: Client,
        domain: Domain,
        store: EventStore,
        commands: CommandClient,
        snapshots: Snapshots,
    ) -> None:
        self.client = client
        self.domain = domain
        self.store = store
        self.commands = commands
        self.snapshots = snapshots
        self.subjects = domain.codec.subjects
        self.outcomes = Outcomes(client, self.subjects)

    @property
    def jetstream(self) -> JetStreamContext:
        """The plain client's view, which knows nothing of ours."""
        return self.client.nats.jetstream()

    def handler(
        self,
        *,
        store: EventStore | None = None,
        states: StateCache | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_conflicts: int = 20,
        snapshots: Snapshots | None = None,
    ) -> CommandHandler:
        return CommandHandler(
            store or self.store,
            self.domain,
            self.outcomes,
            states=states,
            snapshots=snapshots or self.snapshots,
            clock=clock,
            max_conflicts=max_conflicts,
        )

    def worker(
        self,
        *,
        in_flight: int = 256,
        ack_wait: float = 30.0,
        max_deliveries: int = 20,
        max_failures: int = 5,
        **handler: Any,
    ) -> CommandWorker:
        return CommandWorker(
            self.client,
            self.domain.codec,
            self.handler(**handler),
            in_flight=in_flight,
            ack_wait=ack_wait,
            max_deliveries=max_deliveries,
            max_failures=max_failures,
        )

    @asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[CommandWorker]:
        """A worker that works inside the block and is stopped at its end."""
        worker = self.worker(**options)
        async with running(worker):
            await worker.ready.wait()
            yield worker

    async def read(self, aggregate_id: str, aggregate: str = "counter") -> list[RecordedEvent]:
        return [event async for event in self.store.read(aggregate, aggregate_id)]

    async def log_size(self) -> int:
        return await self._size(self.subjects.log_stream)

    async def queued(self) -> int:
        """Commands that are not acknowledged."""
        return await self._size(self.subjects.command_stream)

    async def until_done(self) -> None:
        """Return when every command is acknowledged."""
        await until(self._is_done)

    async def parked(self) -> list[dict[str, Any]]:
        """All that is parked, each record put together from its parts."""
        records = []
        whole = b""
        for sequence in range(1, await self._size(self.subjects.parked_stream) + 1):
            message = await self.jetstream.get_msg(self.subjects.parked_stream, sequence)
            whole += message.data or b""
            number, _, count = (message.headers or {})["X-Part"].partition("/")
            if number == count:
                records.append(msgspec.json.decode(whole, type=dict[str, Any]))
                whole = b""
        return records

    async def _is_done(self) -> bool:
        return await self.queued() == 0

    async def _size(self, stream: str) -> int:
        state = (await self.client.api(f"STREAM.INFO.{stream}"))["state"]
        size: int = state["messages"]
        return size


@asynccontextmanager
async def opened(
    client: Client, domain: Domain, streams: StreamSettings | None = None
) -> AsyncIterator[Line]:
    """Everything on a client's connection; the topology is declared."""
    codec = domain.codec
    await declare(client, topology(codec.subjects, streams or StreamSettings()))
    async with (
        EventStore(client, codec) as store,
        CommandClient(client, codec) as commands,
        Snapshots(client, store) as snapshots,
    ):
        yield Line(client, domain, store, commands, snapshots)


@asynccontextmanager
async def outcomes_lagging(line: Line) -> AsyncIterator[None]:
    """Have direct gets of outcomes answered as by a follower that has none of them yet."""
    stream = f"KV_{line.subjects.outcome_bucket}"
    config = (await line.client.api(f"STREAM.INFO.{stream}"))["config"]
    await line.client.api(f"STREAM.UPDATE.{stream}", {**config, "allow_direct": False})

    async def miss(request: Msg) -> None:
        headers = {"Status": "404", "Description": "Message Not Found"}
        await line.client.publish(request.reply, headers=headers)

    follower = await line.client.subscribe(f"$JS.API.DIRECT.GET.{stream}.>", miss)
    try:
        yield
    finally:
        await follower.unsubscribe()


def accepted(command: Command) -> DecodedCommand:
    """A command on the counter c1, as a worker has it."""
    envelope = Envelope(
        identity=Identity.root(),
        type=type(command).__name__,
        domain="test",
        timestamp=format_timestamp(utc_now()),
        aggregate_id="c1",
    )
    digest = digest_of(command, "c1", envelope.identity.id)
    return DecodedCommand(command, "counter", "c1", envelope, digest)


async def until(condition: Callable[[], Awaitable[bool]], bound: float = 45.0) -> None:
    """Return once a condition on the server is met."""
    async with asyncio.timeout(bound):
        while not await condition():  # noqa: ASYNC110  # the server tells only when asked
            await asyncio.sleep(0.005)


class GatedStore(EventStore):
    """A store whose appends to some aggregates wait at a gate.

    `before` are the gates ahead of the append, `after` those behind it; `begun` names the
    aggregates of the appends so far, `max_concurrency` is the most that were under way together.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.before: dict[str, asyncio.Event] = {}
        self.after: dict[str, asyncio.Event] = {}
        self.begun: list[str] = []
        self.recorded = asyncio.Event()
        self.max_concurrency = 0
        self._under_way = 0
        self._moved = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    def close(self, aggregate_id: str) -> asyncio.Event:
        """Have appends to this aggregate wait until the event is set."""
        return self.before.setdefault(aggregate_id, asyncio.Event())

    def close_after(self, aggregate_id: str) -> asyncio.Event:
        """Have appends to this aggregate not return, though recorded, until the event is set."""
        return self.after.setdefault(aggregate_id, asyncio.Event())

    async def until_begun(self, count: int) -> None:
        async with asyncio.timeout(45.0), self._moved:
            await self._moved.wait_for(lambda: len(self.begun) >= count)

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        aggregate_id = writes[0].aggregate_id
        async with self._moved:
            self.begun.append(aggregate_id)
            self._under_way += 1
            self.max_concurrency = max(self.max_concurrency, self._under_way)
            self._moved.notify_all()
        try:
            if aggregate_id in self.before:
                await self.before[aggregate_id].wait()
            appended = await super().append_prepared(*writes)
            self.recorded.set()
            if aggregate_id in self.after:
                await self.after[aggregate_id].wait()
            return appended
        finally:
            self._under_way -= 1


class FailingStore(EventStore):
    """A store that cannot append, for a while."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    def __init__(
        self, *arguments: Any, failures: Sequence[EventStoreError], **options: Any
    ) -> None:
        super().__init__(*arguments, **options)
        self.failures = list(failures)

    async def append_prepared(self, *writes: PendingAppend) -> list[AppendResult]:
        if self.failures:
            raise self.failures.pop(0)
        return await super().append_prepared(*writes)


def counting(name: str, snapshot_every: int | None = None) -> Domain:
    decider = copy.copy(counter)
    decider.snapshot_every = snapshot_every
    return Domain(name, [decider])
