"""Places: how many requests are answered at a time, how many wait for that, and for how long.

Those who ask get turns one after the other, however much each of them asks, and where there is no
room for all, who asks most is refused first: one asker's load makes no other one wait for it.
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
from eventstore.undecodable import UNDECODABLE

__all__ = ["Admission", "Slot", "asker_of", "request_info"]

_FROM_ANOTHER_ACCOUNT = "_R_."


class _Asker(msgspec.Struct):
    """Who sent a request from another account, in the server's words."""

    acc: str = ""
    user: str = ""


_decode_asker = msgspec.json.Decoder(_Asker).decode


def request_info(headers: dict[str, str]) -> bytes:
    """What the server says of who sent a message; empty where it cannot be told from a claim.

    The server puts its header behind all others. So one elsewhere is the sender's, and of headers
    that are malformed nobody knows where the sender's end.
    """
    if (
        isinstance(headers, UnreadableHeaders)
        or next(reversed(headers), "") != NatsHeader.REQUEST_INFO
    ):
        return b""
    return headers[NatsHeader.REQUEST_INFO].encode(errors="replace")


def asker_of(inbox: str, headers: dict[str, str]) -> str:
    """Who asks, as far as a request shows: by the beginning of its inbox.

    That is the user's where users have inbox prefixes of their own (`_INBOX.ann.>`), and else the
    connection's. A request that comes from another account has an inbox of the server's, but may
    say who sent it in a header, which the server writes; from within the account anybody could.
    """
    if inbox.startswith(_FROM_ANOTHER_ACCOUNT) and (info := request_info(headers)):
        with suppress(*UNDECODABLE):
            asker = _decode_asker(info)
            return f"{asker.acc} {asker.user}"
    return ".".join(inbox.split(".", 2)[:2]) if inbox.count(".") > 1 else inbox.partition(".")[0]


class Admission:
    """At most `max_concurrency` are taken at a time; at most `max_pending` have or want one.

    Who wants one waits for it for at most `max_wait` seconds. Askers have turns, and the requests
    of each are served in order.
    """

    def __init__(self, max_concurrency: int, *, max_pending: int, max_wait: float) -> None:
        self._free = max_concurrency
        self._room = max_pending
        self._max_wait = max_wait
        self._wanted = 0
        self._held: dict[str, dict[Slot, None]] = {}  # of each asker, the oldest first
        self._turns: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def want(self, asker: str = "") -> Slot:
        """Make room for one more, to be released by `Slot.leave`; raises `ServiceBusy`.

        Where there is none, that of an asker who has more is taken from its newest request that
        is not being answered.
        """
        if self._wanted >= self._room and not self._take_from_another(asker):
            raise self._busy()
        place = Slot(self, asker)
        self._held.setdefault(asker, {})[place] = None
        self._wanted += 1
        return place

    async def take(self, place: Slot) -> None:
        """Wait for a free one; raises `ServiceBusy`."""
        if self._free and not self._turns:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.setdefault(place.asker, deque()).append(turn)
        place.turn = turn
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
            place.turn = None
            self._tidy(place.asker)

    def give_back(self) -> None:
        """Have it free again: for the next asker's first request that still waits."""
        while self._turns:
            asker, turns = self._turns.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._turns[asker] = turns  # behind all others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def unwant(self, place: Slot) -> None:
        """Make room for another."""
        own = self._held.get(place.asker, {})
        if place in own:
            del own[place]
            self._wanted -= 1
        if not own:
            self._held.pop(place.asker, None)

    def _take_from_another(self, asker: str) -> bool:
        """Whether somebody had so much more that there is room now."""
        most = max(self._held, key=lambda each: len(self._held[each]), default=asker)
        if len(self._held.get(most, ())) <= len(self._held.get(asker, ())) + 1:
            return False
        for place in reversed(self._held[most]):
            if place.refuse(self._busy()):
                self.unwant(place)
                return True
        return False

    def _tidy(self, asker: str) -> None:
        """Forget the turns that nobody waits for any more, as far as they are the next ones."""
        turns = self._turns.get(asker)
        while turns and turns[0].done():
            turns.popleft()
        if turns is not None and not turns:
            del self._turns[asker]

    def _forgo(self, turn: asyncio.Future[None]) -> None:
        """Pass a turn on that came at the moment in which nobody waited for it any more."""
        if turn.done() and not turn.cancelled() and turn.exception() is None:
            self.give_back()

    def _busy(self) -> ServiceBusy:
        return ServiceBusy(f"{self._room:,} requests are under way or wait; ask again later")


class Slot:
    """What one request has, or waits for; an async context manager that takes it."""

    def __init__(self, places: Admission, asker: str) -> None:
        self.asker = asker
        self.turn: asyncio.Future[None] | None = None
        self._places = places
        self._is_taken = False
        self._pause: asyncio.Timeout | None = None
        self._refused: ServiceBusy | None = None

    async def __aenter__(self) -> None:
        await self._take()

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    @asynccontextmanager
    async def given_up(self) -> AsyncIterator[None]:
        """Let another have it inside the block, and wait for one after it.

        Raises `ServiceBusy` where it is refused meanwhile.
        """
        self._give_back()
        try:
            async with asyncio.timeout(None) as self._pause:
                yield
        except TimeoutError:
            if self._refused is not None:
                raise self._refused from None
            raise
        finally:
            self._pause = None
        await self._take()

    def refuse(self, why: ServiceBusy) -> bool:
        """Have the request end with an error; False where it is being answered."""
        if self._is_taken or self._refused is not None:
            return False
        self._refused = why
        if self.turn is not None and not self.turn.done():
            self.turn.set_exception(why)
        elif self._pause is not None:
            self._pause.reschedule(asyncio.get_running_loop().time())
        return True

    def leave(self) -> None:
        """Want none any more."""
        self._places.unwant(self)

    async def _take(self) -> None:
        if self._refused is not None:
            raise self._refused
        await self._places.take(self)
        self._is_taken = True

    def _give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._places.give_back()
