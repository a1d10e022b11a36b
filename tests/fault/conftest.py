from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fault.selling import EXAMPLE


@pytest.fixture
def shop_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application of the example shop."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield importlib.import_module("shop.app").app
    for name in [each for each in sys.modules if each.partition(".")[0] == "shop"]:
        del sys.modules[name]
