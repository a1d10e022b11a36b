"""Sends a file's events into a fenced log: many in flight, each with its expected position.

Every single event, and every batch, names the position that must be the log's last before it. So
whatever follows a lost or refused message is refused, too, and after any failure the log's last
position alone shows what is recorded and what must be sent again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from eventstore.client.client import Client, Msg
from eventstore.client.replies import new_token
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    ImportRefused,
    JetStreamError,
    NoResponders,
    RequestTimeout,
    TransferError,
)
from eventstore.jetstream.publish import MAX_HEADERS, Draft, check_sizes, read_ack
from eventstore.jetstream.vocabulary import (
    CONFLICTS,
    EXPECTED_HEADERS,
    TRANSIENT,
    ErrorCode,
    NatsHeader,
)
from eventstore.messages.headers import Header
from eventstore.transfer.fence import Fence
from eventstore.transfer.file_format import EventLine

_MAX_IN_FLIGHT = 1_000
_MAX_BYTES = 8 * 1024 * 1024
_ANSWER_SECONDS = 10.0
_MAX_TRIES = 12
_BACKOFF = Backoff(0.1, 2.0, jitter=0)
_DUPLICATE = 0  # not a code of the server, to which a repeat is no error
# Also of a message that was sent before a failure, and is being stored now.
_CLAIMED = {_DUPLICATE, ErrorCode.DUPLICATE_IN_BATCH}
_MAX_CLAIMED = 3


class SendUnit(msgspec.Struct, frozen=True):
    """One event, or those of an atomic batch; `last` is the position of the last one in the log."""

    events: Sequence[EventLine]
    last: int
    size: int

    @property
    def first(self) -> int:
        """The position of the first one in the log."""
        return self.last - len(self.events) + 1


class Sender(Resource):
    """Sends units in order, all recorded up to `position`; an async context manager."""

    def __init__(self, client: Client, fence: Fence, position: int) -> None:
        self.position = position
        self._client = client
        self._fence = fence
        self._units: deque[SendUnit] = deque()
        self._bytes = 0
        self._failure: ClientError | None = None
        self._tries = 0
        self._changed = asyncio.Event()
        self._expected: dict[str, int] = {}  # the position of each one in flight, by its token
        self._inbox = client.new_inbox()

    async def _enter(self, stack: AsyncExitStack) -> None:
        subscription = await self._client.subscribe(f"{self._inbox}.*", self._receive)
        stack.push_async_callback(subscription.unsubscribe)
        stack.callback(self._client.on_disconnect(self._disconnected))

    async def put(self, unit: SendUnit) -> None:
        """Send the next unit; waits while too much is in flight.

        Raises `ImportRefused` if the fence was lost, `TransferError` for an id that is recorded
        already, or a `ClientError` that is not transient.
        """
        self._units.append(unit)
        self._bytes += unit.size
        await self._publish(unit)
        while self._units and (
            unit.last - self.position > _MAX_IN_FLIGHT or self._bytes > _MAX_BYTES
        ):
            await self._wait()

    async def finish(self) -> None:
        """Return when all units are recorded; raises as `put` does."""
        while self._units:
            await self._wait()

    async def _publish(self, unit: SendUnit) -> None:
        token = new_token()
        self._expected[token] = unit.last
        drafts = _drafts(unit)
        try:
            for draft in drafts:
                await self._client.publish(
                    self._fence.subject(draft.subject),
                    draft.payload,
                    headers=draft.headers,
                    reply=f"{self._inbox}.{token}" if draft is drafts[-1] else "",
                )
        except ConnectionLost as error:
            self._failure = error

    async def _receive(self, message: Msg) -> None:
        position = self._expected.pop(message.subject.rpartition(".")[2], None)
        if position is None:
            return
        try:
            if message.headers and message.headers.get("Status") == "503":
                raise NoResponders("no stream takes the imported events: declare the topology")
            ack = read_ack(message.subject, message.data, self._fence.stream)
            if ack.seq != position:
                raise JetStreamError(_DUPLICATE, 0, f"its id is recorded at position {ack.seq}")
        except ClientError as error:
            self._failure = self._failure or error
        else:
            self._confirm(ack.seq)
        self._changed.set()

    def _confirm(self, position: int) -> None:
        while self._units and self._units[0].last <= position:
            unit = self._units.popleft()
            self._bytes -= unit.size
            self.position = unit.last
            self._tries = 0

    async def _wait(self) -> None:
        """Wait for an acknowledgement; after a failure, find out what to send again."""
        self._changed.clear()
        if self._failure is None:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                self._failure = RequestTimeout(f"no answer within {_ANSWER_SECONDS:g} s")
        if self._failure is not None:
            await self._recover(self._failure)

    async def _recover(self, error: ClientError) -> None:
        self._tries += 1
        if self._client.is_closed or self._tries > _MAX_TRIES:
            raise error
        if self._tries > 1:
            await asyncio.sleep(_BACKOFF.delay(self._tries))
        self._expected.clear()  # later acknowledgements of these prove nothing
        try:
            await self._client.wait_connected(_ANSWER_SECONDS)
            last = await self._fence.last()
        except (ConnectionLost, RequestTimeout, NoResponders) as next_error:
            self._failure = next_error
            return
        before = self.position
        self._confirm(last)
        if self._units and self._units[0].first <= last:
            raise ImportRefused(f"position {last} is recorded, in the middle of a batch")
        if self.position == before and isinstance(error, JetStreamError):
            self._check_passing(error)
        self._failure = None
        for unit in list(self._units):
            await self._publish(unit)

    def _check_passing(self, error: JetStreamError) -> None:
        """Raise unless a refused unit may be accepted when it is sent again."""
        if error.err_code in _CLAIMED and self._tries > _MAX_CLAIMED:
            raise TransferError(
                f"position {self.position + 1} is refused, because its id is recorded already: "
                "the file contains it twice"
            ) from error
        # A conflict is explained by the position.
        if error.err_code not in TRANSIENT | CONFLICTS | _CLAIMED:
            raise error

    def _disconnected(self) -> None:
        self._failure = self._failure or ConnectionLost("the connection broke during the import")
        self._changed.set()


def check_unit(unit: SendUnit, max_payload: int) -> None:
    """Raise `EventTooLarge` or `BatchTooLarge` for a unit that a server would not accept.

    `max_payload` is in bytes.
    """
    if unit.size * 4 + MAX_HEADERS > max_payload:
        check_sizes(_drafts(unit), max_payload)


def _drafts(unit: SendUnit) -> list[Draft]:
    drafts = []
    for event in unit.events:
        own = {k: v for k, v in event.headers.items() if not k.startswith(EXPECTED_HEADERS)}
        event_type = own.get(Header.EVENT_TYPE, "?")
        drafts.append(Draft.of(event.subject, own, event.payload, event_type))
    drafts[0] = drafts[0].plus(f"{NatsHeader.EXPECTED_LAST_SEQUENCE}: {unit.first - 1}\r\n")
    return drafts
