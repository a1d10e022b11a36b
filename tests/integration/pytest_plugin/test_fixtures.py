"""The fixtures, as a project of its own uses them: its conftest has no line of ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TESTS = """
import pytest
from bank import Deposit, GetAccount, app
from eventstore.pytest_plugin import RunApp, eventually


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
    assert "4 passed" in ended.stdout, ended.stdout + ended.stderr
