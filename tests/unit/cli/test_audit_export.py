"""CSV for spreadsheets: cells are no formulas, numbers stay numbers, output is escaped."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import sys
from datetime import UTC, datetime

import msgspec
import pytest

from eventstore.audit import AuditEntry
from eventstore.cli.audit.export import _Csv, _JsonLines, _without_formulas
from eventstore.cli.output.terminal import say


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
def test_text_that_looks_like_a_formula_is_marked_as_text(text: str) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerow(_without_formulas([text]))

    assert next(csv.reader(io.StringIO(written.getvalue(), newline=""))) == [f"'{text}"]


@pytest.mark.parametrize("cell", ["", "a=1", "1-2", "2026-01-01T00:00:00Z", "'x", -1, 2.5, None])
def test_other_cells_are_unchanged(cell: object) -> None:
    assert _without_formulas([cell]) == [cell]


UNSAFE = "a\x9b31m\u202e\u2066\u2028\u200b\ufeffz"
ENTRY = AuditEntry(
    kind="event",
    id="e1",
    type="Noted",
    aggregate="journal",
    aggregate_id="j1",
    version=1,
    position=1,
    time=datetime(2026, 1, 1, tzinfo=UTC),
    actor=UNSAFE,
    correlation_id="e1",
    causation_id="e1",
)
PAYLOAD = msgspec.json.encode({"text": UNSAFE})


@pytest.mark.parametrize("payloads", [None, [PAYLOAD]])
def test_unsafe_characters_are_escaped_in_json_lines(payloads: list[bytes] | None) -> None:
    line = _JsonLines().lines([ENTRY], payloads)

    assert line.rstrip("\n").isprintable()
    assert UNSAFE in json.loads(line).values()
    assert payloads is None or json.loads(line)["payload"] == {"text": UNSAFE}


def test_csv_is_unchanged_in_a_pipe_and_escaped_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = _Csv(payload=True).lines([ENTRY], [PAYLOAD])
    assert UNSAFE in text

    piped = io.StringIO(newline="")
    monkeypatch.setattr(sys, "stdout", piped)
    assert say(text, newline=False)
    assert piped.getvalue() == text

    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8", newline="") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert say(text, newline=False)
        terminal.flush()
        shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert shown.replace("\r\n", "").isprintable()
    assert r"\x9b31m\u202e" in shown
