"""Fuzzing in its short form: a service, files and settings; the long form is `make fuzz`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from eventstore.errors import ConfigurationError
from tests.fuzz import files
from tests.fuzz.files import fuzz_files
from tests.fuzz.run import Result, fuzz

MESSAGES = 400


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def fuzzed(directory: Path) -> Result:
    return asyncio.run(fuzz(directory, 7, MESSAGES))


def test_a_service_lives_and_answers_or_parks_what_comes(fuzzed: Result) -> None:
    assert fuzzed.findings == []
    assert sum(fuzzed.sent.values()) == MESSAGES
    assert fuzzed.accepted > fuzzed.parked > 0  # some are carried out, others are not


def test_files_and_settings_are_read_or_refused(fuzzed: Result, directory: Path) -> None:
    read, findings = fuzz_files(directory, 7, 400, fuzzed.export)
    assert findings == []
    assert min(read["read"], read["refused"]) > 0


def test_another_error_than_one_of_the_library_is_a_finding(
    fuzzed: Result, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_path: Path) -> None:
        raise KeyError("x")

    def refuses(_path: Path) -> None:
        raise ConfigurationError("x")

    monkeypatch.setattr(files, "READERS", {"anchor": fails, "contract": refuses})
    read, findings = fuzz_files(directory, 7, 60, fuzzed.export)
    assert read["refused"] > 0
    assert "KeyError" in findings[0]
