"""The report of the benchmarks: its table, its JSON, its plot, and the documents that have them."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import documents
from tests.bench.machine import Machine
from tests.bench.plot import plot
from tests.bench.report import Limit, Measurement, Quartiles, Report, table
from tests.bench.turns import Comparison, in_turns

MACHINE = Machine(
    system="Linux x86_64",
    processor="Some CPU",
    cores=2,
    memory=24.0,
    versions={"Python": "3.11.7"},
    load=0.2,
)
APPEND = Measurement(
    name="append <one>",
    rate=12_345.6,
    limit=Limit("bare publish", 20_000.4),
    ratio=Quartiles(0.5, 0.62, 0.7),
    cpu={"client": 41.2, "server": 17.9},
    p50=1.234,
    p99=2_171.7,
)
LOAD = Measurement(name="load", p50=0.5)


def report(*measurements: Measurement) -> Report:
    return Report(
        taken_at="2026-11-28 23:00 UTC",
        revision="abc1234",
        seconds=90,
        machine=MACHINE,
        measurements={"store": measurements},
    )


def test_a_row_has_the_rate_the_limit_the_ratio_the_cpu_and_the_latency() -> None:
    assert APPEND.cells == (
        "append <one>",
        "12,346 events/s",
        "bare publish: 20,000/s",
        "0.62 (0.50 to 0.70)",
        "client 41, server 18",
        "1.23, 2,172",
        "",
    )
    assert str(LOAD) == "load  p50, p99 ms 0.5"


def test_a_table_is_aligned_and_has_no_empty_column() -> None:
    assert table([APPEND, LOAD], (0, 1, 5, 6)).splitlines() == [
        "| what         | rate            | p50, p99 ms |",
        "|--------------|-----------------|-------------|",
        "| append <one> | 12,346 events/s | 1.23, 2,172 |",
        "| load         |                 | 0.5         |",
    ]


def test_a_report_is_read_back_from_its_json(tmp_path: Path) -> None:
    written = report(APPEND, LOAD)
    written.write(tmp_path / "new" / "report.json")
    read = Report.read(tmp_path / "new" / "report.json")
    assert (str(read), read.of("store", "x")) == (str(written), [APPEND, LOAD])
    assert "revision abc1234 at 2026-11-28 23:00 UTC" in read.origin
    assert "2 cores of Some CPU, 24 GB; Python 3.11.7; load 0.2 before the run" in read.origin


def test_a_plot_has_a_bar_for_each_ratio() -> None:
    drawing = ElementTree.fromstring(plot([APPEND, LOAD]))  # noqa: S314  # our own
    texts = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["1 = what is beside it", "append <one>", "beside bare publish", "0.62"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([2.0], (2, 2, 2)), ([1.0, 2.0], (1.25, 1.5, 1.75)), ([3.0, 1.0, 2.0], (1.5, 2, 2.5))],
)
def test_quartiles_lie_between_the_slices(values: list[float], expected: tuple[float, ...]) -> None:
    found = Quartiles.of(values)
    assert (found.low, found.median, found.high) == expected


async def test_the_ratio_is_that_of_slices_beside_each_other() -> None:
    calls: list[str] = []

    async def own(number: int) -> float:
        calls.append(f"own {number}")
        return 10.0 * (number + 1)

    async def bare(number: int) -> float:
        calls.append(f"bare {number}")
        return 20.0 * (number + 1)

    both = await in_turns(own, bare, 3)
    assert calls == ["own 0", "bare 0", "bare 1", "own 1", "own 2", "bare 2"]
    assert both[:4] == Comparison(20.0, 40.0, 0.5, (0.5, 0.5, 0.5))[:4]
    assert set(both.cpu) == {"client"}


def test_the_documents_have_what_the_report_says() -> None:
    for path, text in documents.rendered(Report.read(documents.REPORT)).items():
        assert path.read_text(encoding="utf-8") == text, "run: python -m tests.bench.documents"


def test_a_document_without_a_place_for_the_table_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n{documents.BEGIN}\n")
    with pytest.raises(SystemExit, match="needs one line"):
        documents.between(page, "text")


def test_a_machine_is_busy_when_others_use_half_of_it() -> None:
    assert not MACHINE.is_busy
    assert Machine.this().versions["nats-server"]
