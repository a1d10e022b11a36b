"""CSV for spreadsheets: no cell that came from outside is a formula, and numbers are numbers."""

from __future__ import annotations

import csv
import io

import pytest

from eventstore.cli.audit_export import _without_formulas


@pytest.mark.parametrize(
    "text",
    [
        "=1+2",
        '=HYPERLINK("http://h","x")',
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\rx",
        "\nx",
        "  =1",
        "\ufeff=1",
        "\uff1d1",
        "\uff0b1",
        "\uff0d1",
        "\uff20x",
        "\xa0=1",
    ],
)
def test_what_a_spreadsheet_takes_for_a_formula_is_marked_as_text(text: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(_without_formulas([text]))

    assert next(csv.reader(io.StringIO(written.getvalue(), newline=""))) == [f"'{text}"]


@pytest.mark.parametrize("cell", ["", "a=1", "1-2", "2026-01-01T00:00:00Z", "'x", -1, 2.5, None])
def test_everything_else_stays_as_it_is(cell: object) -> None:
    assert _without_formulas([cell]) == [cell]
