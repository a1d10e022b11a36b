"""The systemd units in `ops/`."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = sorted((Path(__file__).parents[2] / "ops").glob("*.service"))
KIB = {"K": 1, "M": 1024, "G": 1024**2}


def unit(name: str) -> ConfigParser:
    (path,) = [each for each in UNITS if each.name == name]
    parsed = ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read(path)
    return parsed


def kib(size: str) -> int:
    found = re.fullmatch(r"(\d+)([KMG])(?:iB)?", size)
    assert found is not None, size
    return int(found[1]) * KIB[found[2]]


def test_go_collects_garbage_before_the_server_has_all_its_memory() -> None:
    service = unit("nats-server.service")["Service"]
    name, _, limit = service["Environment"].partition("=")
    assert name == "GOMEMLIMIT"
    assert kib(limit) * 4 == kib(service["MemoryMax"]) * 3


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_a_user_of_its_own_and_restarts(path: Path) -> None:
    service = unit(path.name)["Service"]
    assert (service["DynamicUser"], service["Restart"]) == ("yes", "on-failure")
