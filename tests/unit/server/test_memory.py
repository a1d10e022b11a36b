"""The limit of an embedded server's memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventstore.server.memory import server_environment

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("own", ["512MiB", "off"])
def test_a_limit_in_the_environment_is_kept(own: str) -> None:
    assert server_environment({"GOMEMLIMIT": own, "HOME": "/"}) == {"GOMEMLIMIT": own, "HOME": "/"}


def test_without_one_it_is_a_quarter_of_the_machine(tmp_path: Path) -> None:
    assert server_environment({}, tmp_path) == {"GOMEMLIMIT": str(MACHINE // 4)}


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
@pytest.mark.parametrize(
    ("limit", "expected"),
    [("1048576\n", 262_144), ("max\n", MACHINE // 4), ("9223372036854771712\n", MACHINE // 4)],
)
def test_a_container_has_less(tmp_path: Path, file: str, limit: str, expected: int) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(limit)
    assert server_environment({}, tmp_path) == {"GOMEMLIMIT": str(expected)}
