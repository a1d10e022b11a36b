"""Ctrl-C while the program is still being imported."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from eventstore.concurrency import event_loop

INTERRUPTED = """
import sys
from importlib.abc import MetaPathFinder

import eventstore.cli

class Interrupted(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "eventstore.cli.app":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
eventstore.cli.main()
"""


def test_an_interrupt_during_imports_ends_silently_with_status_130() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_a_coroutine_that_was_not_started_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    async def work() -> None:
        pytest.fail("it has begun")

    monkeypatch.setattr(event_loop, "new_loop", interrupted)
    main = work()
    with pytest.raises(KeyboardInterrupt):
        event_loop.run(main)
    assert inspect.getcoroutinestate(main) == inspect.CORO_CLOSED
