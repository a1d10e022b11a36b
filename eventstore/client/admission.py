"""Admission control: bounds concurrent requests, the queue behind them, and how long one may wait.

Requesters are served round-robin, however many requests each of them has. When the queue is full,
the requester with most requests is refused first: the load of one does not delay the others.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from eventstore.client.protocol import UnreadableHeaders
from eventstore.errors import ServiceBusy
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.undecodable import UNDECODABLE

_FROM_ANOTHER_ACCOUNT = "_R_."


class Requester(msgspec.Struct):
    """The sender of a message: the fields of the server's header that it cannot choose itself."""

    acc: str
    user: str = ""


_decode_requester = msgspec.json.Decoder(Requester).decode


def requester_in(headers: dict[str, str]) -> Requester | None:
    """The sender of a message according to the server; None if it could be forged, or not read.

    The server's header is the last one. One elsewhere is the sender's own, and in malformed headers
    the end of the sender's cannot be determined.
    """
    is_last = next(reversed(headers), "") == NatsHeader.REQUEST_INFO
    if is_last and not isinstance(headers, UnreadableHeaders):
        with suppress(*UNDECODABLE):
            return _decode_requester(headers[NatsHeader.REQUEST_INFO].encode(errors="replace"))
    return None


def requester_of(inbox: str, headers: dict[str, str]) -> str:
    """Identify the requester by the prefix of its inbox.

    That is the user's if users have inbox prefixes of their own (`_INBOX.ann.>`), else the
    connection's. A request from another account has an inbox of the server, but may name its sender
    in a header that the server writes; within the account anybody could write it.
    """
    if inbox.startswith(_FROM_ANOTHER_ACCOUNT) and (requester := requester_in(headers)):
        return f"{requester.acc} {requester.user}"
    return ".".join(inbox.split(".", 2)[:2]) if inbox.count(".") > 1 else inbox.partition(".")[0]


class Admission:
    """Admits at most `max_concurrency` requests at a time; at most `max_pending` run or wait.

    A request waits for at most `max_wait` seconds. Requesters are served round-robin, and the
    requests of each in order.
    """

    def __init__(self, max_concurrency: int, *, max_pending: int, max_wait: float) -> None:
        self._free = max_concurrency
        self._max_pending = max_pending
        self._max_wait = max_wait
        self._pending = 0
        self._slots: dict[str, dict[Slot, None]] = {}  # of each requester, the oldest first
        self._turns: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def enqueue(self, requester: str = "") -> Slot:
        """A slot for one more request, to be freed by `Slot.leave`; raises `ServiceBusy`.

        When the queue is full, a requester who has more slots loses that of its newest request
        which is not being answered.
        """
        if self._pending >= self._max_pending and not self._evict_for(requester):
            raise self._busy()
        slot = Slot(self, requester)
        self._slots.setdefault(requester, {})[slot] = None
        self._pending += 1
        return slot

    async def acquire(self, slot: Slot) -> None:
        """Wait until the request may run; raises `ServiceBusy` after `max_wait`."""
        if self._free and not self._turns:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.setdefault(slot.requester, deque()).append(turn)
        slot.turn = turn
        try:
            async with asyncio.timeout(self._max_wait):
                await turn
        except TimeoutError:
            self._forgo(turn)
            raise ServiceBusy(
                f"the request had no turn within {self._max_wait:g} s; ask again later"
            ) from None
        except asyncio.CancelledError:
            self._forgo(turn)
            raise
        finally:
            slot.turn = None
            self._tidy(slot.requester)

    def release(self) -> None:
        """Let the next requester's first waiting request run."""
        while self._turns:
            requester, turns = self._turns.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._turns[requester] = turns  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def remove(self, slot: Slot) -> None:
        """Remove a slot, and so make room for another one."""
        own = self._slots.get(slot.requester, {})
        if slot in own:
            del own[slot]
            self._pending -= 1
        if not own:
            self._slots.pop(slot.requester, None)

    def _evict_for(self, requester: str) -> bool:
        """Refuse a request of the requester with most slots; False if none has enough more."""
        largest = max(self._slots, key=lambda each: len(self._slots[each]), default=requester)
        if len(self._slots.get(largest, ())) <= len(self._slots.get(requester, ())) + 1:
            return False
        for slot in reversed(self._slots[largest]):
            if slot.refuse(self._busy()):
                self.remove(slot)
                return True
        return False

    def _tidy(self, requester: str) -> None:
        """Drop abandoned turns at the front of a requester's queue."""
        turns = self._turns.get(requester)
        while turns and turns[0].done():
            turns.popleft()
        if turns is not None and not turns:
            del self._turns[requester]

    def _forgo(self, turn: asyncio.Future[None]) -> None:
        """Pass on a turn that was given at the moment in which its request stopped waiting."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self.release()

    def _busy(self) -> ServiceBusy:
        return ServiceBusy(f"{self._max_pending:,} requests are under way or wait; ask again later")


class Slot:
    """The slot of one request; an async context manager that waits until the request may run."""

    def __init__(self, admission: Admission, requester: str) -> None:
        self.requester = requester
        self.turn: asyncio.Future[None] | None = None
        self._admission = admission
        self._is_running = False
        self._pause: asyncio.Timeout | None = None
        self._refused: ServiceBusy | None = None

    async def __aenter__(self) -> None:
        if self._refused is not None:
            raise self._refused
        await self._admission.acquire(self)
        self._is_running = True

    async def __aexit__(self, *_: object) -> None:
        if self._is_running:
            self._is_running = False
            self._admission.release()

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Let another request run inside the block, and wait for the next turn after it.

        Raises `ServiceBusy` if the request is refused meanwhile.
        """
        await self.__aexit__()
        try:
            async with asyncio.timeout(None) as self._pause:
                yield
        except TimeoutError:
            if self._refused is not None:
                raise self._refused from None
            raise
        finally:
            self._pause = None
        await self.__aenter__()

    def refuse(self, why: ServiceBusy) -> bool:
        """End the request with an error; False if it is being answered."""
        if self._is_running or self._refused is not None:
            return False
        self._refused = why
        if self.turn is not None and not self.turn.done():
            self.turn.set_exception(why)
        elif self._pause is not None:
            self._pause.reschedule(asyncio.get_running_loop().time())
        return True

    def leave(self) -> None:
        """Free the slot for another request."""
        self._admission.remove(self)
