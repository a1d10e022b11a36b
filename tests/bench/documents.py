"""The tables and the plot in the documents, written from a report's JSON, and by nothing else.

`python -m tests.bench.documents` writes them again from `docs/performance.json`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.bench.plot import plot
from tests.bench.report import Report, table

__all__ = ["REPORT", "rendered", "write"]

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs" / "performance.json"
PLOT = ROOT / "docs" / "performance.svg"
PAGE = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"

BEGIN, END = "<!-- make bench -->", "<!-- end of make bench -->"
_TABLE = re.compile(f"{BEGIN}\n.*?{END}\n", re.DOTALL)

IN_SHORT = ("service", "store", "peers")
SYNCED_LATER = "flushed by the system"
COLUMNS = (0, 1, 2, 3, 5)
"""The README's table: the benchmarks, of which those that have a ratio, each beside the first that
it is compared with; without a repetition of some; and its columns."""


def rendered(report: Report) -> Mapping[Path, str]:
    """The files that have to do with a report, as they have to be."""
    first = {each.name: each for each in reversed(report.of(*IN_SHORT)) if each.ratio is not None}
    short = [each for each in reversed(first.values()) if SYNCED_LATER not in each.name]
    return {
        PAGE: between(PAGE, str(report)),
        README: between(README, f"{table(short, COLUMNS)}\n\n{report.origin}"),
        PLOT: plot(report.of(*report.measurements)),
    }


def write(report: Report) -> None:
    """Write the report and the files that have to do with it."""
    report.write(REPORT)
    for path, text in rendered(report).items():
        path.write_text(text, encoding="utf-8")


def between(path: Path, text: str) -> str:
    """A document with this text in its place; `SystemExit` if it has none."""
    document = path.read_text(encoding="utf-8")
    if len(_TABLE.findall(document)) != 1:
        raise SystemExit(f"{path} needs one line {BEGIN} and, after it, one {END}")
    return _TABLE.sub(lambda _: f"{BEGIN}\n{text}\n{END}\n", document)


if __name__ == "__main__":
    write(Report.read(REPORT))
