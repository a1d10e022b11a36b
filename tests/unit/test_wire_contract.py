"""The wire contract's code and test vectors agree with the library."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.headers import check_envelope

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = json.loads((DOCS / "chain-vectors.json").read_text(encoding="utf-8"))


def documented() -> Callable[..., str]:
    """The function that the page shows."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "wire.md").read_text(), re.DOTALL)
    names: dict[str, Callable[..., str]] = {}
    exec(code, names)  # noqa: S102  # our own page
    return names["chain_value"]


@pytest.mark.parametrize("value", [chain_value, documented()], ids=["library", "page"])
def test_the_vectors_are_the_values_of_the_library_and_of_the_page(
    value: Callable[..., str],
) -> None:
    previous = GENESIS
    for event in VECTORS:
        previous = value(previous, event["subject"], event["headers"], event["payload"].encode())
        assert previous == event["headers"]["X-Chain"]
    assert len(VECTORS) > 2


def test_the_vectors_are_events_that_the_store_could_have_written() -> None:
    for event in VECTORS:
        check_envelope(event["headers"])
