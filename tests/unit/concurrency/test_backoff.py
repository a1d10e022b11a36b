"""The delays between tries, and when there are no more tries."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.concurrency.backoff import Backoff, Retries, pause
from tests.unit.concurrency.clock import Clock


def test_without_jitter_each_delay_is_twice_the_one_before_up_to_the_longest() -> None:
    backoff = Backoff(0.25, 2.5, jitter=0)
    delays = [backoff.delay(failures) for failures in (1, 2, 3, 4, 5, 6, 1_000_000)]
    assert delays == [0.25, 0.5, 1.0, 2.0, 2.5, 2.5, 2.5]


@given(
    failures=st.integers(1, 10_000),
    jitter=st.floats(0, 1),
    extra=st.floats(0, 100),
)
def test_chance_shortens_a_delay_by_the_jitter_and_lengthens_it_by_the_extra(
    failures: int, jitter: float, extra: float
) -> None:
    whole = Backoff(0.1, 3.0, jitter=0).delay(failures)
    delay = Backoff(0.1, 3.0, jitter, extra).delay(failures)
    assert whole * (1 - jitter) - 1e-9 <= delay <= whole + extra + 1e-9


def test_delays_of_several_that_failed_together_differ() -> None:
    assert len({Backoff(1, 1).delay(1) for _ in range(20)}) > 1


def test_retries_count_failures_and_end_at_the_deadline() -> None:
    clock = Clock()
    retries = Retries(Backoff(1, 60, jitter=0), timeout=10, clock=clock)
    assert (retries.next_delay(), retries.next_delay()) == (1, 2)
    clock.now += 7
    assert (retries.waited, retries.left) == (7, 3)
    assert retries.next_delay() == 3, "no longer than there is time"
    clock.now += 3
    assert retries.next_delay() is None
    assert (retries.failures, retries.left) == (3, 0)


def test_without_a_timeout_retries_never_end() -> None:
    clock = Clock()
    retries = Retries(Backoff(1, 60, jitter=0), clock=clock)
    clock.now += 1e9
    assert retries.next_delay() == 1


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_pause_ends_with_its_time_or_when_it_is_interrupted(interrupted: bool) -> None:
    clock, interrupt = Clock(), asyncio.Event()
    clock.drive()
    waiting = asyncio.create_task(pause(30, interrupt))
    await clock.advance(29)
    assert not waiting.done()
    if interrupted:
        interrupt.set()
        await clock.advance(0)
    else:
        await clock.advance(2)
    assert waiting.done()
    assert await waiting is interrupted
