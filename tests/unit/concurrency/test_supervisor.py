"""Failed work is restarted, and its failure is logged once until it has recovered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import FailureLog, Supervisor
from eventstore.errors import ConnectionLost
from tests.unit.concurrency.clock import Clock

logger = logging.getLogger(__name__)


def supervisor(clock: Clock, timeout: float = float("inf")) -> Supervisor:
    return Supervisor(
        *("work", logger, Backoff(10, 40, jitter=0)),
        passes=lambda error: isinstance(error, OSError),
        timeout=timeout,
        clock=clock,
    )


def failing(*errors: Exception) -> Callable[[], Awaitable[str]]:
    left = list(errors)

    async def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work


def test_a_failure_is_logged_once_until_it_has_another_cause_or_has_recovered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = FailureLog("work", logger)
    failures.recovered()
    for text in ("away", "away", "full", "full"):
        failures.note(OSError(text))
    assert str(failures.error) == "full"
    failures.recovered()
    failures.recovered()
    failures.note(OSError("full"))
    assert caplog.messages == [
        "work: away; retrying",
        "work: full; retrying",
        "work: recovered",
        "work: full; retrying",
    ]


def test_a_lost_connection_is_left_to_the_connection_to_report(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = FailureLog("work", logger)
    error = ConnectionLost("away")
    failures.note(error)
    assert failures.error is error
    failures.recovered()
    assert failures.error is None
    assert not caplog.messages


async def test_work_is_run_again_after_growing_pauses_until_it_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    clock.drive()
    supervised = supervisor(clock)
    running = asyncio.create_task(supervised.run(failing(OSError("a"), OSError("a"))))
    await clock.advance(9)
    assert str(supervised.error) == "a"
    await clock.advance(2)
    await clock.advance(19)
    assert not running.done()
    await clock.advance(2)
    assert await running == "done"
    assert supervised.error is None
    assert caplog.messages == ["work: a; retrying", "work: recovered"]


async def test_what_does_not_pass_is_raised() -> None:
    with pytest.raises(LookupError):
        await supervisor(Clock()).run(failing(LookupError()))


async def test_what_lasts_for_longer_than_the_timeout_is_raised() -> None:
    clock = Clock()
    clock.drive()
    supervised = supervisor(clock, timeout=15)
    errors = [OSError(text) for text in ("first", "second", "third")]
    running = asyncio.create_task(supervised.run(failing(*errors)))
    await clock.advance(10)
    assert supervised.left == 5
    await clock.advance(5)
    with pytest.raises(OSError, match="third"):
        await running


async def test_what_has_recovered_has_all_its_time_and_short_pauses_again() -> None:
    clock = Clock()
    clock.drive()
    supervised = supervisor(clock, timeout=15)
    for _ in range(3):
        pausing = asyncio.create_task(supervised.failed(OSError("away")))
        await clock.advance(10)
        assert pausing.done()
        supervised.recovered()
        assert supervised.left == 15


async def test_work_that_went_well_for_long_is_logged_when_it_fails_the_same_way(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    clock.drive()
    durations = [0, 0, 3_600]

    async def work() -> None:
        if durations:
            clock.now += durations.pop(0)
            raise OSError("away")

    running = asyncio.create_task(supervisor(clock).run(work))
    for _ in range(3):
        await clock.advance(20)
    await running
    assert caplog.messages == ["work: away; retrying"] * 2 + ["work: recovered"]


async def test_a_stop_ends_the_pause_and_is_no_recovery(caplog: pytest.LogCaptureFixture) -> None:
    clock, stopping = Clock(), asyncio.Event()
    clock.drive()
    supervised = Supervisor(
        *("work", logger, Backoff(60, 60)),
        passes=lambda error: isinstance(error, OSError),
        interrupt=stopping,
        level=logging.ERROR,
    )
    running = asyncio.create_task(supervised.run(failing(OSError("away"))))
    await clock.advance(1)
    assert not running.done()
    stopping.set()
    assert await running == "done"
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("ERROR", "work: away; retrying")
    ]
