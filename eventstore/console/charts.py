"""Charts as points of SVG drawings, which templates put into a page without any script."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

WIDTH = 240
HEIGHT = 56
_MARGIN = 3


class Chart(Struct, frozen=True, kw_only=True):
    """A line over time, for a `viewBox` of `WIDTH` by `HEIGHT`.

    `line` and `area` are points of a polyline and of a polygon, empty if nothing is known.
    """

    title: str
    unit: str
    line: str
    area: str
    now: float | None
    highest: float
    minutes: float


def chart(title: str, unit: str, times: Sequence[float], values: Sequence[float | None]) -> Chart:
    """A chart of values at times (seconds, rising); None is an unknown value."""
    known = [(at, value) for at, value in zip(times, values, strict=True) if value is not None]
    highest = max((value for _, value in known), default=0.0)
    span = max(1.0, known[-1][0] - known[0][0]) if known else 1.0
    scale = highest or 1.0
    points = [
        (
            (at - known[0][0]) / span * WIDTH,
            HEIGHT - _MARGIN - value / scale * (HEIGHT - 2 * _MARGIN),
        )
        for at, value in known
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points) if len(points) > 1 else ""
    area = f"{points[0][0]:.1f},{HEIGHT} {line} {points[-1][0]:.1f},{HEIGHT}" if line else ""
    return Chart(
        title=title,
        unit=unit,
        line=line,
        area=area,
        now=known[-1][1] if known else None,
        highest=highest,
        minutes=span / 60,
    )
