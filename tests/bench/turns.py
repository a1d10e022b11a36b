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
    one of them, and `bare_cpu` the same for the others.
    """

    rate: float
    bare: float
    ratio: float
    ratios: tuple[float, ...] = ()
    cpu: Mapping[str, float] = MappingProxyType({})
    bare_cpu: Mapping[str, float] = MappingProxyType({})


async def in_turns(own: Slice, bare: Slice, slices: int, meter: Meter | None = None) -> Comparison:
    """Measure both alternately; which of the two comes first changes with each slice."""
    meter = meter or Meter()
    sides = _Side(own, meter), _Side(bare, meter)
    for number in range(slices):
        for side in sides if number % 2 == 0 else reversed(sides):
            await side.run(number)
    one, other = sides
    ratios = [rate / beside for rate, beside in zip(one.rates, other.rates, strict=True)]
    return Comparison(
        median(one.rates), median(other.rates), median(ratios), tuple(ratios), one.cpu, other.cpu
    )


class _Side:
    """The slices of one side."""

    def __init__(self, work: Slice, meter: Meter) -> None:
        self.rates: list[float] = []
        self._work = work
        self._meter = meter
        self._used: Counter[str] = Counter()

    async def run(self, number: int) -> None:
        before = self._meter.read()
        self.rates.append(await self._work(number))
        self._used.update(self._meter.since(before))

    @property
    def cpu(self) -> dict[str, float]:
        """What each process used for one slice."""
        return {name: total / len(self.rates) for name, total in self._used.items()}
