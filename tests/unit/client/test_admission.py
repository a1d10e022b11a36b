"""Admission control: requesters are served round-robin, and share the queue."""

from __future__ import annotations

import asyncio

import pytest

from eventstore.client.admission import Admission, Slot, requester_of
from eventstore.client.protocol import UnreadableHeaders
from eventstore.errors import ServiceBusy

BOUND = 10.0
FROM_ACCOUNT = "_R_.AbCdEf.xyz123"


@pytest.mark.parametrize(
    ("inbox", "headers", "requester"),
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
def test_the_requester_of_an_inbox(inbox: str, headers: dict[str, str], requester: str) -> None:
    assert requester_of(inbox, headers) == requester


class Load:
    """Requests that take a slot, note that they run, and wait until they may end."""

    def __init__(self, admission: Admission) -> None:
        self.served: list[str] = []
        self.go_on = asyncio.Semaphore(0)
        self._admission = admission

    def ask(self, name: str, *, pauses: bool = False) -> asyncio.Task[None]:
        slot = self._admission.enqueue(name.rstrip("0123456789"))
        task = asyncio.create_task(self._answer(name, slot, pauses=pauses))
        task.add_done_callback(lambda _: slot.leave())
        return task

    async def _answer(self, name: str, slot: Slot, *, pauses: bool) -> None:
        async with slot:
            if pauses:
                async with slot.released():
                    await asyncio.sleep(BOUND)
            self.served.append(name)
            await self.go_on.acquire()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def results(tasks: list[asyncio.Task[None]]) -> list[bool]:
    """Which of the tasks were refused."""
    return [task.done() and isinstance(task.exception(), ServiceBusy) for task in tasks]


async def test_requesters_are_served_round_robin() -> None:
    load = Load(Admission(1, max_pending=100, max_wait=BOUND))
    tasks = [load.ask(f"a{n}") for n in range(5)] + [load.ask("b0"), load.ask("c0")]
    await settled()
    for _ in tasks:
        load.go_on.release()
        await settled()
    await asyncio.gather(*tasks)

    assert load.served == ["a0", "a1", "b0", "c0", "a2", "a3", "a4"]


async def test_one_requester_may_fill_the_queue() -> None:
    load = Load(Admission(1, max_pending=3, max_wait=BOUND))
    tasks = [load.ask(f"a{n}") for n in range(3)]
    with pytest.raises(ServiceBusy, match="3 requests are under way or wait"):
        load.ask("a3")
    for _ in tasks:
        load.go_on.release()
    await asyncio.gather(*tasks)


async def test_a_full_queue_refuses_the_newest_of_the_largest_requester() -> None:
    load = Load(Admission(1, max_pending=4, max_wait=BOUND))
    many = [load.ask(f"a{n}") for n in range(4)]
    await settled()
    others = [load.ask("b0"), load.ask("c0")]
    await settled()
    assert results(many) == [False, False, True, True]
    with pytest.raises(ServiceBusy):
        load.ask("b1")  # nobody has more than it would have
    for _ in range(4):
        load.go_on.release()
    await asyncio.gather(*others, *many[:2])
    assert sorted(load.served) == ["a0", "a1", "b0", "c0"]


@pytest.mark.parametrize("begun", [False, True])
async def test_a_full_queue_refuses_requests_that_wait_for_something_else(begun: bool) -> None:
    """Also one that was admitted just now."""
    load = Load(Admission(2, max_pending=4, max_wait=BOUND))
    many = [load.ask(f"a{n}", pauses=True) for n in range(4)]
    if begun:
        await settled()
    other = load.ask("b0")
    await settled()
    assert results(many) == [False, False, False, True]
    assert load.served == ["b0"]
    for task in (*many, other):
        task.cancel()
    await asyncio.gather(*many, other, return_exceptions=True)


async def test_a_running_request_is_not_refused() -> None:
    load = Load(Admission(4, max_pending=4, max_wait=BOUND))
    many = [load.ask(f"a{n}") for n in range(4)]
    await settled()
    with pytest.raises(ServiceBusy):
        load.ask("b0")
    for _ in many:
        load.go_on.release()
    await asyncio.gather(*many)


async def test_a_turn_of_a_cancelled_request_is_passed_on() -> None:
    admission = Admission(1, max_pending=10, max_wait=BOUND)
    first, second, third = (admission.enqueue(name) for name in "abc")
    await first.__aenter__()
    waiting = asyncio.create_task(second.__aenter__())
    after = asyncio.create_task(third.__aenter__())
    await settled()
    await first.__aexit__()  # the second has the turn now, and is cancelled before it knows
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    async with asyncio.timeout(BOUND):
        await after


async def test_a_timeout_leaves_nothing_behind() -> None:
    admission = Admission(1, max_pending=10, max_wait=0.01)
    first = admission.enqueue("a")
    await first.__aenter__()
    for _ in range(3):
        with pytest.raises(ServiceBusy, match="had no turn within"):
            await admission.enqueue("b").__aenter__()
    assert not admission._turns
    await first.__aexit__()
    async with admission.enqueue("c"):
        pass
