"""The plot of a report: each ratio as a bar with its quartiles, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.bench.report import Measurement

__all__ = ["plot"]

ROW, LABEL, BARS, MARGIN = 34, 400, 420, 16
"""Pixels: a row's height, the width of the names, that of the longest bar, and around it all."""

COLOUR, LIMIT, TEXT = "#4c78a8", "#b33", "#777"


def plot(measurements: Sequence[Measurement]) -> str:
    """An SVG drawing of all measurements that have a ratio; a line marks what is beside each."""
    chosen = [each for each in measurements if each.ratio is not None]
    longest = max((each.ratio.high for each in chosen if each.ratio is not None), default=1.0)
    scale = BARS / max(1.0, longest)
    width, height = LABEL + BARS + 3 * MARGIN + 60, ROW * len(chosen) + 3 * MARGIN
    limit = LABEL + scale
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif" font-size="12">',
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            _text(limit, MARGIN, "1 = what is beside it", LIMIT, "middle"),
            *(
                line
                for number, each in enumerate(chosen)
                for line in _bar(each, 2 * MARGIN + ROW * number, scale)
            ),
            f'<line x1="{limit:.1f}" y1="{1.5 * MARGIN}" x2="{limit:.1f}" '
            f'y2="{height - MARGIN}" stroke="{LIMIT}" stroke-dasharray="4 3"/>',
            "</svg>",
            "",
        ]
    )


def _bar(each: Measurement, top: float, scale: float) -> list[str]:
    assert each.ratio is not None
    low, middle, high = (
        scale * value for value in (each.ratio.low, each.ratio.median, each.ratio.high)
    )
    beside = "" if each.limit is None else f"beside {each.limit.name}"
    line = top + 9
    return [
        _text(LABEL - 8, top + 8, each.name, "#000", "end"),
        _text(LABEL - 8, top + 21, beside, TEXT, "end"),
        f'<rect x="{LABEL}" y="{top}" width="{middle:.1f}" height="18" fill="{COLOUR}"/>',
        f'<line x1="{LABEL + low:.1f}" y1="{line}" x2="{LABEL + high:.1f}" y2="{line}" '
        f'stroke="#000" stroke-width="2"/>',
        _text(LABEL + max(middle, high) + 6, top + 13, f"{each.ratio.median:.2f}", "#000", "start"),
    ]


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )
