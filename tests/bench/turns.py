"""Alternating measurements: what disturbs the machine for a while disturbs both.

If two rates are measured one after the other, their ratio depends as much on what else the machine
did in the meantime as on the two. So both are measured in short alternating slices, and the ratio
is the median of the slices' ratios.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from statistics import median
from typing import NamedTuple

__all__ = ["Comparison", "in_turns"]

Slice = Callable[[int], Awaitable[float]]
"""Runs the slice of this number, from 0, and returns its rate."""


class Comparison(NamedTuple):
    """The medians of the slices: both rates, and the ratio of each slice to its neighbour."""

    rate: float
    bare: float
    ratio: float


async def in_turns(own: Slice, bare: Slice, slices: int) -> Comparison:
    """Measure both alternately; which of the two comes first changes with each slice."""
    rates: list[float] = []
    bares: list[float] = []
    for number in range(slices):
        if number % 2:
            bares.append(await bare(number))
        rates.append(await own(number))
        if not number % 2:
            bares.append(await bare(number))
    ratios = [rate / beside for rate, beside in zip(rates, bares, strict=True)]
    return Comparison(median(rates), median(bares), median(ratios))
