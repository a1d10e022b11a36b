"""Sending a file's events into a fenced log: many under way, each at the one position it may have.

Every single event, and every batch, says which position must be the log's last before it. So what
follows something that was lost or refused is refused too, and after any doubt the log's last
position alone tells what stands and what is to be sent again.
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
from eventstore.transfer.fence import Fence
from eventstore.transfer.file_format import EventLine

__all__ = ["SendUnit", "Sender", "check_unit"]

_MOST_UNDER_WAY = 1_000
_MOST_BYTES = 8 * 1024 * 1024
_ANSWER_SECONDS = 10.0
_MOST_TRIES = 12
_BACKOFF = Backoff(0.1, 2.0, jitter=0)
_DUPLICATE = 0  # not the server's: a repeat is no error to it
# Also what was sent before a doubt, and is being stored now.
_CLAIMED = {_DUPLICATE, ErrorCode.DUPLICATE_IN_BATCH}
_MOST_CLAIMED = 3


class SendUnit(msgspec.Struct, frozen=True):
    """One event, or those of an atomic batch; `last` is the position of the last in the log."""

    events: Sequence[EventLine]
    last: int
    size: int

    @property
    def first(self) -> int:
        """The position of the first in the log."""
        return self.last - len(self.events) + 1


class Sender(Resource):
    """Sends units in order, and knows up to which position all stand; a context manager."""

    def __init__(self, client: Client, fence: Fence, position: int) -> None:
        self.position = position
        self._client = client
        self._fence = fence
        self._units: deque[SendUnit] = deque()
        self._bytes = 0
        self._trouble: ClientError | None = None
        self._tries = 0
        self._moved = asyncio.Event()
        self._asked: dict[str, int] = {}  # where each that is under way must come to stand
        self._inbox = client.new_inbox()

    async def _enter(self, stack: AsyncExitStack) -> None:
        subscription = await self._client.subscribe(f"{self._inbox}.*", self._receive)
        stack.push_async_callback(subscription.unsubscribe)
        stack.callback(self._client.on_disconnect(self._disconnected))

    async def put(self, unit: SendUnit) -> None:
        """Send the next unit, as soon as not too much is under way.

        Raises `ImportRefused` where the fence is lost, `TransferError` for an id that stands
        already, or a `ClientError` that does not pass.
        """
        self._units.append(unit)
        self._bytes += unit.size
        await self._try(unit)
        while unit.last - self.position > _MOST_UNDER_WAY or self._bytes > _MOST_BYTES:
            if not self._units:
                break
            await self._wait()

    async def finish(self) -> None:
        """Return when all stand; raises as `put` does."""
        while self._units:
            await self._wait()

    async def _try(self, unit: SendUnit) -> None:
        try:
            await self._publish(unit)
        except ConnectionLost as error:
            self._trouble = error

    async def _publish(self, unit: SendUnit) -> None:
        drafts = _drafts(unit)
        for draft in drafts[:-1]:
            await self._client.publish(
                self._fence.subject(draft.subject), draft.payload, headers=draft.headers
            )
        draft = drafts[-1]
        token = new_token()
        self._asked[token] = unit.last
        await self._client.publish(
            self._fence.subject(draft.subject),
            draft.payload,
            headers=draft.headers,
            reply=f"{self._inbox}.{token}",
        )

    async def _receive(self, message: Msg) -> None:
        position = self._asked.pop(message.subject.rpartition(".")[2], None)
        if position is None:
            return
        try:
            if message.headers and message.headers.get("Status") == "503":
                raise NoResponders("nobody takes what is imported")
            ack = read_ack(message.subject, message.data, self._fence.stream)
            if ack.seq != position:
                raise JetStreamError(_DUPLICATE, 0, f"its id stands at position {ack.seq}")
        except ClientError as error:
            self._trouble = self._trouble or error
        else:
            self._confirm(ack.seq)
        self._moved.set()

    def _confirm(self, position: int) -> None:
        while self._units and self._units[0].last <= position:
            unit = self._units.popleft()
            self._bytes -= unit.size
            self.position = unit.last
            self._tries = 0

    async def _wait(self) -> None:
        """Wait for an answer; where there is trouble, find out what stands and send the rest."""
        self._moved.clear()
        if self._trouble is None:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._moved.wait()
            except TimeoutError:
                self._trouble = RequestTimeout(f"no answer within {_ANSWER_SECONDS:g} s")
        if self._trouble is not None:
            await self._recover(self._trouble)

    async def _recover(self, error: ClientError) -> None:
        self._tries += 1
        if self._client.is_closed or self._tries > _MOST_TRIES:
            raise error
        if self._tries > 1:
            await asyncio.sleep(_BACKOFF.delay(self._tries))
        self._asked.clear()  # what is still answered to those says nothing any more
        try:
            await self._client.wait_connected(_ANSWER_SECONDS)
            last = await self._fence.last()
        except (ConnectionLost, RequestTimeout, NoResponders) as again:
            self._trouble = again
            return
        before = self.position
        self._confirm(last)
        if self._units and self._units[0].first <= last:
            raise ImportRefused(f"position {last} stands, in the middle of a batch")
        if self.position == before and isinstance(error, JetStreamError):
            self._check_passing(error)
        self._trouble = None
        for unit in list(self._units):
            await self._try(unit)

    def _check_passing(self, error: JetStreamError) -> None:
        """Raise unless what was refused may be taken when it is sent again."""
        if error.err_code in _CLAIMED and self._tries > _MOST_CLAIMED:
            raise TransferError(
                f"position {self.position + 1} is refused, because an id of it stands already: "
                "the file holds it twice"
            ) from error
        # A conflict is explained by the position.
        if error.err_code not in TRANSIENT | CONFLICTS | _CLAIMED:
            raise error

    def _disconnected(self) -> None:
        self._trouble = self._trouble or ConnectionLost("the connection broke during the import")
        self._moved.set()


def check_unit(unit: SendUnit, max_payload: int) -> None:
    """Raise `EventTooLarge` or `BatchTooLarge` for what a server would not take.

    `max_payload` is in bytes.
    """
    if unit.size * 4 + MAX_HEADERS > max_payload:
        check_sizes(_drafts(unit), max_payload)


def _drafts(unit: SendUnit) -> list[Draft]:
    drafts = [_draft(event) for event in unit.events]
    drafts[0].headers[NatsHeader.EXPECTED_LAST_SEQUENCE] = str(unit.first - 1)
    return drafts


def _draft(event: EventLine) -> Draft:
    headers = {
        name: value
        for name, value in event.headers.items()
        if not name.startswith(EXPECTED_HEADERS)
    }
    return Draft(event.subject, headers, event.payload, event.event_type)
