"""Places: turns for those who ask, and room that nobody takes from the others."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.client.admission import Admission, Slot, asker_of
from eventstore.client.protocol import UnreadableHeaders
from eventstore.errors import ServiceBusy

BOUND = 10.0
FROM_ACCOUNT = "_R_.AbCdEf.xyz123"


@pytest.mark.parametrize(
    ("inbox", "headers", "asker"),
    [
        ("_INBOX.token.1", {}, "_INBOX.token"),
        ("_INBOX.ann.token.1", {}, "_INBOX.ann"),
        ("_INBOX_c.ann.token.1", {}, "_INBOX_c.ann"),
        ("_INBOX.unique", {}, "_INBOX"),
        ("plain", {}, "plain"),
        (FROM_ACCOUNT, {}, "_R_.AbCdEf"),
        (FROM_ACCOUNT, {"Nats-Request-Info": '{"acc":"C","user":"ann","rtt":7}'}, "C ann"),
        (FROM_ACCOUNT, {"Nats-Request-Info": "garbled"}, "_R_.AbCdEf"),
        (FROM_ACCOUNT, {"Nats-Request-Info": "\udcff"}, "_R_.AbCdEf"),
        (FROM_ACCOUNT, {"Nats-Request-Info": '{"acc":"C"}', "X": "glued"}, "_R_.AbCdEf"),
        (FROM_ACCOUNT, UnreadableHeaders({"Nats-Request-Info": "{}"}, "cut"), "_R_.AbCdEf"),
        ("_INBOX.token.1", {"Nats-Request-Info": '{"acc":"C","user":"ann"}'}, "_INBOX.token"),
    ],
)
def test_who_asks(inbox: str, headers: dict[str, str], asker: str) -> None:
    assert asker_of(inbox, headers) == asker


class Asking:
    """Requests that take a place, note that they have it, and wait until they may leave."""

    def __init__(self, places: Admission) -> None:
        self.served: list[str] = []
        self.go_on = asyncio.Semaphore(0)
        self._places = places

    def ask(self, name: str, *, pauses: bool = False) -> asyncio.Task[None]:
        place = self._places.want(name.rstrip("0123456789"))
        task = asyncio.create_task(self._answer(name, place, pauses=pauses))
        task.add_done_callback(lambda _: place.leave())
        return task

    async def _answer(self, name: str, place: Slot, *, pauses: bool) -> None:
        async with place:
            if pauses:
                async with place.given_up():
                    await asyncio.sleep(BOUND)
            self.served.append(name)
            await self.go_on.acquire()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def results(tasks: list[asyncio.Task[None]]) -> list[bool]:
    """Which of the tasks were refused."""
    return [task.done() and isinstance(task.exception(), ServiceBusy) for task in tasks]


async def test_askers_have_turns_however_much_they_ask() -> None:
    asking = Asking(Admission(1, max_pending=100, max_wait=BOUND))
    tasks = [asking.ask(f"a{n}") for n in range(5)] + [asking.ask("b0"), asking.ask("c0")]
    await settled()
    for _ in tasks:
        asking.go_on.release()
        await settled()
    await asyncio.gather(*tasks)

    assert asking.served == ["a0", "a1", "b0", "c0", "a2", "a3", "a4"]


async def test_one_asker_may_have_all_the_room_and_no_more() -> None:
    asking = Asking(Admission(1, max_pending=3, max_wait=BOUND))
    tasks = [asking.ask(f"a{n}") for n in range(3)]
    with pytest.raises(ServiceBusy, match="3 requests are under way or wait"):
        asking.ask("a3")
    for _ in tasks:
        asking.go_on.release()
    await asyncio.gather(*tasks)


async def test_room_is_taken_from_the_newest_of_who_has_most() -> None:
    asking = Asking(Admission(1, max_pending=4, max_wait=BOUND))
    many = [asking.ask(f"a{n}") for n in range(4)]
    await settled()
    others = [asking.ask("b0"), asking.ask("c0")]
    await settled()
    assert results(many) == [False, False, True, True]
    with pytest.raises(ServiceBusy):
        asking.ask("b1")  # nobody has more than it would have
    for _ in range(4):
        asking.go_on.release()
    await asyncio.gather(*others, *many[:2])
    assert sorted(asking.served) == ["a0", "a1", "b0", "c0"]


@pytest.mark.parametrize("begun", [False, True])
async def test_room_is_taken_from_those_who_wait_for_something_else(begun: bool) -> None:
    """Also from one that was let in just now."""
    asking = Asking(Admission(2, max_pending=4, max_wait=BOUND))
    many = [asking.ask(f"a{n}", pauses=True) for n in range(4)]
    if begun:
        await settled()
    other = asking.ask("b0")
    await settled()
    assert results(many) == [False, False, False, True]
    assert asking.served == ["b0"]
    for task in (*many, other):
        task.cancel()
    await asyncio.gather(*many, other, return_exceptions=True)


async def test_what_is_answered_is_not_refused() -> None:
    asking = Asking(Admission(4, max_pending=4, max_wait=BOUND))
    many = [asking.ask(f"a{n}") for n in range(4)]
    await settled()
    with pytest.raises(ServiceBusy):
        asking.ask("b0")
    for _ in many:
        asking.go_on.release()
    await asyncio.gather(*many)


async def test_a_turn_that_comes_too_late_is_passed_on() -> None:
    places = Admission(1, max_pending=10, max_wait=BOUND)
    first, second, third = (places.want(name) for name in "abc")
    await first.__aenter__()
    waiting = asyncio.create_task(second.__aenter__())
    after = asyncio.create_task(third.__aenter__())
    await settled()
    await first.__aexit__()  # the second has the turn now, and is cancelled before it knows
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(BOUND):
        await after


async def test_patience_ends_and_leaves_nothing_behind() -> None:
    places = Admission(1, max_pending=10, max_wait=0.01)
    first = places.want("a")
    await first.__aenter__()
    for _ in range(3):
        with pytest.raises(ServiceBusy, match="had no turn within"):
            await places.want("b").__aenter__()
    assert not places._turns
    await first.__aexit__()
    async with places.want("c"):
        pass
