"""Two ways in turns: what disturbs the machine for a while disturbs both.

Measured one after the other, the ratio of two rates says as much about what else the machine did
in the meantime as about the two. So each is measured in short slices, one beside the other, and
the ratio is the median of the slices' own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from statistics import median
from typing import NamedTuple

__all__ = ["Beside", "in_turns"]

Slice = Callable[[int], Awaitable[float]]
"""Does the slice of this number, from 0, and gives its rate."""


class Beside(NamedTuple):
    """The medians of the slices: both rates, and the ratio of each slice to the one beside it."""

    rate: float
    bare: float
    ratio: float


async def in_turns(own: Slice, bare: Slice, slices: int) -> Beside:
    """Measure both in turns; which of the two comes first changes from slice to slice."""
    rates: list[float] = []
    bares: list[float] = []
    for number in range(slices):
        if number % 2:
            bares.append(await bare(number))
        rates.append(await own(number))
        if not number % 2:
            bares.append(await bare(number))
    ratios = [rate / beside for rate, beside in zip(rates, bares, strict=True)]
    return Beside(median(rates), median(bares), median(ratios))
