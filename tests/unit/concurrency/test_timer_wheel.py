"""The timer wheel: never early, at most a tick late, and still when nothing is due."""

from __future__ import annotations

import asyncio
import time

from eventstore.concurrency.timer_wheel import TimerWheel


async def test_every_item_is_due_after_its_delay_in_the_order_of_the_delays() -> None:
    due: dict[str, float] = {}
    over = asyncio.Event()

    def note(item: str) -> None:
        due[item] = time.monotonic() - began
        if len(due) == 3:
            over.set()

    wheel = TimerWheel[str](note)
    began = time.monotonic()
    for item, delay in (("late", 0.2), ("soon", 0.01), ("next", 0.1)):
        wheel.add(item, delay)
    await asyncio.wait_for(over.wait(), 5)
    assert list(due) == ["soon", "next", "late"]
    assert due["soon"] >= 0.01
    assert due["next"] >= 0.1
    assert due["late"] >= 0.2
    assert wheel._turning is None  # nothing turns while nothing waits


async def test_a_stopped_wheel_forgets_its_items() -> None:
    due: list[str] = []
    wheel = TimerWheel[str](due.append)
    wheel.add("dropped", 0.0)
    wheel.stop()
    over = asyncio.Event()
    other = TimerWheel[str](lambda _: over.set())
    other.add("later", 0.1)
    await asyncio.wait_for(over.wait(), 5)
    assert due == []
    assert not asyncio.all_tasks() - {asyncio.current_task()}
