"""Values as the console shows them."""

from __future__ import annotations

import math

import pytest

from eventstore.console import text
from eventstore.console.charts import HEIGHT, WIDTH, chart


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1.25, "1.2 s"),
        (59, "59 s"),
        (61, "1 min 1 s"),
        (3_600, "1 h"),
        (90_000, "1 d 1 h"),
        (None, "?"),
        ("<b>\u202e", "<b>\\u202e"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds: object, shown: str) -> None:
    assert text.duration(seconds) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (1234567, "1,234,567"), (0.25, "0.2"), (2.0, "2"), (None, "?"), ("\x1b", "\\x1b")],
)
def test_a_number_has_separators(number: object, shown: str) -> None:
    assert text.number(number) == shown


def test_what_cannot_be_seen_is_shown_and_what_is_long_is_cut() -> None:
    assert text.line("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e"
    assert text.line("x" * 1_000).endswith("(600 more characters)")
    assert text.block("a\nb\u202e") == "a\nb\\u202e"


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xfe", b"{", b'{"a": "\\u202e"}', b"[" * 3_000 + b"]" * 3_000, b"x" * 900_000],
)
def test_any_payload_can_be_shown(payload: bytes) -> None:
    shown = text.payload_block(payload)

    assert len(shown) < 5_000
    assert "\u202e" not in shown
    assert text.is_truncated(payload) == (len(payload) > text.MAX_BLOCK)


def test_a_chart_stays_within_its_box() -> None:
    drawn = chart("Rate", "a second", [0, 5, 10, 15], [None, 0, 50, 25])
    points = [tuple(map(float, each.split(","))) for each in drawn.line.split()]

    assert (drawn.now, drawn.highest) == (25, 50)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert math.isclose(points[-1][0], WIDTH)


@pytest.mark.parametrize("values", [[], [None], [3.0], [None, None]])
def test_a_chart_of_too_little_has_no_line(values: list[float | None]) -> None:
    drawn = chart("Rate", "a second", list(range(len(values))), values)

    assert (drawn.line, drawn.area) == ("", "")
