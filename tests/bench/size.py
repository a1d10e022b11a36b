"""The size of a benchmark: `SMALL=1` is a quick look, whose figures are rough."""

from __future__ import annotations

import os

SMALL = bool(os.environ.get("SMALL"))


def sized(full: int, small: int) -> int:
    """The first in a full run, the second with `SMALL=1`."""
    return small if SMALL else full
