"""The fixtures, as a project of its own uses them: its conftest has no line of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TESTS = """
from datetime import timedelta

import pytest
from bank import Deposit, GetAccount, app
from eventstore.errors import ConfigurationError
from eventstore.pytest_plugin import AppClock, RunApp, eventually


@pytest.mark.parametrize("number", range(3))
async def test_each_test_has_an_application_of_its_own(run_app: RunApp, number: int) -> None:
    async with run_app(app) as bank:
        outcome = await bank.execute(Deposit(amount=50), "ann")
        assert (outcome.version, outcome.position) == (1, 1)
        view = await bank.ask(GetAccount(id="ann"), wait_for=outcome.position)
        assert view.balance == 50


async def test_two_in_one_test_do_not_know_of_each_other(run_app: RunApp) -> None:
    async with run_app(app) as first, run_app(app, projections=False) as second:
        await first.execute(Deposit(amount=50), "ann")
        assert (await second.execute(Deposit(amount=1), "ann")).version == 1

        async def balance() -> bool:
            return (await first.ask(GetAccount(id="ann"))).balance == 50

        assert await eventually(balance)


async def test_timers_are_due_as_the_clock_moves(
    run_app: RunApp, eventstore_clock: AppClock
) -> None:
    with pytest.raises(ConfigurationError, match="no application runs by this clock"):
        await eventstore_clock.advance("1d")
    async with run_app(app, clock=eventstore_clock, projections=False, feed=False) as bank:
        await bank.send(Deposit(amount=5), "ann", after=timedelta(days=30))
        assert await eventstore_clock.advance("29d") == []
        (fired,) = await eventstore_clock.advance(timedelta(days=1))
        assert fired.type == "Deposit"
        (event,) = [event async for event in bank.store.read("account", "ann")]
        assert event.time.year == 2100
        with pytest.raises(ConfigurationError, match="'soon' is not a delay"):
            await eventstore_clock.advance("soon")
        with pytest.raises(ConfigurationError, match="application bank runs by this clock"):
            async with run_app(app, clock=eventstore_clock):
                pass
"""


def test_they_are_there_without_a_conftest(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "bank.py", tmp_path)
    (tmp_path / "test_bank.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\npythonpath = .\nasyncio_mode = auto\n"
        "asyncio_default_fixture_loop_scope = function\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110)
    assert "5 passed" in ended.stdout, ended.stdout + ended.stderr
