"""A pytest plugin: writes how long each test took, of those that passed, to a file."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

__all__ = ["OPTION", "Recorder", "pytest_addoption", "pytest_configure"]

OPTION = "--record-durations"


class Recorder:
    """Adds up the phases of each test; a test that failed or was skipped is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = defaultdict(float)
        self._left_out: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test has ended."""
        self._seconds[report.nodeid] += report.duration
        if not report.passed:
            self._left_out.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Write the file."""
        passed = {
            test: round(seconds, 3)
            for test, seconds in self._seconds.items()
            if test not in self._left_out
        }
        self._path.write_text(json.dumps(passed))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that names the file."""
    parser.addoption(
        OPTION, type=Path, default=None, help="write each test's seconds here, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Record where the option is given, in the process that hears of all tests."""
    path: Path | None = config.getoption(OPTION)
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(path), "duration-recorder")
