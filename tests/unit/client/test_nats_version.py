"""A nats-py that this release does not know is named."""

from __future__ import annotations

import ast
import logging
from pathlib import Path

import nats.aio.client
import pytest

from eventstore.client.nats_version import KNOWN, NEEDED, check, check_nats_py
from eventstore.errors import ConfigurationError

CLIENT = Path(__file__).parents[3] / "eventstore" / "client"


def private_names(module: str) -> set[str]:
    """The private attributes that a module uses or defines."""
    found = set()
    for node in ast.walk(ast.parse((CLIENT / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_all_private_names_that_are_used_are_checked() -> None:
    used = private_names("connection") | private_names("protocol")
    assert sorted(used & set(dir(nats.aio.client.Client()))) == sorted(NEEDED)


def test_the_installed_one_is_known(caplog: pytest.LogCaptureFixture) -> None:
    check_nats_py()
    assert not caplog.records


def test_another_one_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check("2.17.3", nats.aio.client.Client())
    assert (
        f"nats-py 2.17.3 is not known to this release, which corrects and is tested with {KNOWN}"
        in caplog.text
    )


def test_one_without_a_needed_name_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"nats-py 3.0 does not fit .* has no _attempt"):
        check("3.0", object())
