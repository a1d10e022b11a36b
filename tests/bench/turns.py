"""Alternating measurements: what disturbs the machine for a while disturbs both.

If two rates are measured one after the other, their ratio depends as much on what else the machine
did in the meantime as on the two. So both are measured in short alternating slices, and the ratio
is the median of the slices' ratios.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from tests.bench.cpu import Meter

__all__ = ["Comparison", "in_turns"]

Slice = Callable[[int], Awaitable[float]]
"""Runs the slice of this number, from 0, and returns its rate."""


class Comparison(NamedTuple):
    """The medians of the slices: both rates, and the ratio of each slice to its neighbour.

    `ratios` has them all; `cpu` is what each process used for the own slices, in nanoseconds for
    one of them.
    """

    rate: float
    bare: float
    ratio: float
    ratios: tuple[float, ...] = ()
    cpu: Mapping[str, float] = MappingProxyType({})


async def in_turns(own: Slice, bare: Slice, slices: int, meter: Meter | None = None) -> Comparison:
    """Measure both alternately; which of the two comes first changes with each slice."""
    meter = meter or Meter()
    used: Counter[str] = Counter()
    rates: list[float] = []
    bares: list[float] = []
    for number in range(slices):
        if number % 2:
            bares.append(await bare(number))
        before = meter.read()
        rates.append(await own(number))
        used.update(meter.since(before))
        if not number % 2:
            bares.append(await bare(number))
    ratios = [rate / beside for rate, beside in zip(rates, bares, strict=True)]
    cpu = {name: total / slices for name, total in used.items()}
    return Comparison(median(rates), median(bares), median(ratios), tuple(ratios), cpu)
