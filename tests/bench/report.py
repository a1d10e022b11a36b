"""The report of a run: measurements in one form, their table, and the JSON that keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import quantiles

import msgspec

from tests.bench.loop import run
from tests.bench.machine import Machine
from tests.bench.turns import Comparison

__all__ = ["Limit", "Measurement", "Quartiles", "Report", "collected", "table"]


class Limit(msgspec.Struct, frozen=True):
    """What the same is measured beside: its name, and its median rate in items a second."""

    name: str
    rate: float


class Quartiles(msgspec.Struct, frozen=True):
    """The median of several slices, and what lies between a quarter and three quarters of them."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """The quartiles of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*quantiles(values, n=4, method="inclusive"))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


class Measurement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured: the median rate in items a second, and whatever else is known.

    `cpu` is in microseconds an item, by process; `p50` and `p99` are in milliseconds. `ratio` is
    the rate to the limit's, slice by slice.
    """

    name: str
    unit: str = "events"
    rate: float | None = None
    limit: Limit | None = None
    ratio: Quartiles | None = None
    cpu: Mapping[str, float] = {}
    p50: float | None = None
    p99: float | None = None
    note: str = ""

    @classmethod
    def beside(
        cls, name: str, limit: str, both: Comparison, items: int, *, unit: str = "events"
    ) -> Measurement:
        """A rate and its limit, alternated; `items` of them in each own slice."""
        return cls(
            name=name,
            unit=unit,
            rate=both.rate,
            limit=Limit(limit, both.bare),
            ratio=Quartiles.of(both.ratios),
            cpu={process: used / items / 1_000 for process, used in both.cpu.items()},
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        return (
            self.name,
            "" if self.rate is None else f"{self.rate:,.0f} {self.unit}/s",
            "" if self.limit is None else f"{self.limit.name}: {self.limit.rate:,.0f}/s",
            _ratio(self.ratio),
            ", ".join(f"{process} {used:,.0f}" for process, used in self.cpu.items()),
            _milliseconds(self.p50, self.p99),
            self.note,
        )

    def __str__(self) -> str:
        heads = ("", "", "beside ", "ratio ", "CPU µs ", "p50, p99 ms ", "")
        cells = zip(heads, self.cells, strict=True)
        return "  ".join(f"{head}{cell}" for head, cell in cells if cell)


HEADS = (
    "what",
    "rate",
    "beside it, in turns",
    "ratio (quartiles)",
    "CPU µs an item",
    "p50, p99 ms",
    "",
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run: when, where, at which revision, what it found; `small` is the quick form."""

    taken_at: str
    small: bool = False
    revision: str
    seconds: float
    machine: Machine
    measurements: Mapping[str, Sequence[Measurement]]
    """By benchmark."""

    @classmethod
    def read(cls, path: Path) -> Report:
        """A report that `write` has written."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self)) + b"\n")

    def __str__(self) -> str:
        return f"{self.origin}\n\n{table(self.of(*self.measurements))}"

    def of(self, *benchmarks: str) -> list[Measurement]:
        """The measurements of some benchmarks, in this order."""
        return [each for name in benchmarks for each in self.measurements.get(name, ())]

    @property
    def origin(self) -> str:
        """Where the figures are from."""
        command = "make bench SMALL=1" if self.small else "make bench"
        busy = " Others were at work: only ratios and CPU count." if self.machine.is_busy else ""
        return (
            f"`{command}` of revision {self.revision} at {self.taken_at}, in "
            f"{self.seconds / 60:.0f} minutes, on {self.machine}.{busy}"
        )


def table(measurements: Iterable[Measurement], columns: Sequence[int] = range(7)) -> str:
    """A Markdown table, aligned for a terminal; only some of the columns if they are named.

    A column without any value is left out.
    """
    rows = [HEADS, *(each.cells for each in measurements)]
    kept = [number for number in columns if any(row[number] for row in rows[1:])]
    chosen = [[row[number] for number in kept] for row in rows]
    widths = [max(map(len, column)) for column in zip(*chosen, strict=True)]
    lines = [_row(row, widths) for row in chosen]
    return "\n".join([lines[0], f"|{'|'.join('-' * (width + 2) for width in widths)}|", *lines[1:]])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def _ratio(ratio: Quartiles | None) -> str:
    return "" if ratio is None else str(ratio)


def _milliseconds(*values: float | None) -> str:
    known = (each for each in values if each is not None)
    return ", ".join(f"{each:,.0f}" if each >= 100 else f"{each:.3g}" for each in known)


def collected(measuring: AsyncIterator[Measurement]) -> list[Measurement]:
    """Run a benchmark to its end, and show each measurement when it has been made."""
    return run(_collected(measuring))


async def _collected(measuring: AsyncIterator[Measurement]) -> list[Measurement]:
    found = []
    async for measurement in measuring:
        print(f"  {measurement}", flush=True)
        found.append(measurement)
    return found
