"""Untrusted text is safe on a terminal and in a log."""

from __future__ import annotations

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.messages.text import (
    MAX_LOGGED,
    bounded,
    counted,
    decoded,
    encodable,
    make_log_records_safe,
    presentable,
    printable,
    printable_json,
    printable_lines,
    storable,
)

DECEIVING = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    *"\u200b\u200c\u200d\u200e\u200f\u061c\u2028\u2029\u2060\ufeff\xad",
    *("\ud800", "\udfff", "\U000e0041"),
]


@pytest.mark.parametrize("character", DECEIVING, ids=lambda each: f"{ord(each):04x}")
def test_deceptive_characters_are_escaped(character: str) -> None:
    shown = printable(f"a{character}b")

    assert shown.startswith("a\\")
    assert shown.isascii()
    assert shown.endswith("b")


@given(st.text(st.sampled_from(["a", "\\", '"', "\n", *DECEIVING]) | st.characters()))
def test_json_means_the_same_and_is_printable(text: str) -> None:
    shown = printable_json(json.dumps(text, ensure_ascii=False))

    assert json.loads(shown) == text
    assert printable(shown) == shown


def test_lines_and_tabs_may_stay() -> None:
    assert printable_lines("a\tb\nc\rd\x1b") == "a\tb\nc\\rd\\x1b"


def test_ordinary_text_is_unchanged() -> None:
    text = "Grüße, 你好, \U0001f642, “quoted”…"
    assert printable(text) == printable_lines(text) == printable_json(text) == text


def test_long_text_is_truncated_with_a_count() -> None:
    assert bounded("abc", 3) == "abc"
    assert bounded("a" * 1_003, 3) == "aaa… (1,000 more characters)"


@pytest.fixture
def logged() -> tuple[logging.Logger, io.StringIO]:
    """A logger that is made safe, and what it writes."""
    logger = logging.Logger("outside")
    written = io.StringIO()
    logger.addHandler(logging.StreamHandler(written))
    make_log_records_safe(logger)
    make_log_records_safe(logger)
    assert len(logger.filters) == 1
    return logger, written


def test_a_log_message_is_bounded_and_one_line(
    logged: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, written = logged
    logger.warning("it said %s, 100 %%", "a\nERROR: b\x9b31m" + "x" * 900_000)

    line = written.getvalue()
    assert line.startswith("it said a\\nERROR: b\\x9b31mxxx")
    assert line.count("\n") == 1
    assert len(line) < MAX_LOGGED + 100
    assert "more characters)" in line


def test_an_ordinary_message_is_unchanged(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = logged
    logger.warning("%d %% of %s", 10, "it")
    assert written.getvalue() == "10 % of it\n"


def fail(text: str) -> None:
    raise ValueError(text)


def test_a_traceback_is_bounded_and_escaped(logged: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = logged
    try:
        fail("\x1b[2J\u202e" + "y" * 900_000)
    except ValueError:
        logger.exception("it failed")

    text = written.getvalue()
    assert "ValueError: \\x1b[2J\\u202eyyy" in text
    assert "\nTraceback (most recent call last):\n" in text
    assert len(text) < 30_000


def test_a_presentable_text_is_unchanged() -> None:
    assert presentable("Zürich ☃ \x00") == "Zürich ☃ \x00"


def test_other_types_are_shown_as_text() -> None:
    assert presentable(404) == "404"


@given(st.text(st.characters()))
def test_what_is_presentable_can_be_sent_and_what_is_storable_has_no_nul(text: str) -> None:
    assert len(presentable(text).encode().decode()) == len(text)
    assert storable(text) == presentable(text).replace("\0", "\ufffd")
    assert len(presentable("x" * 5_000)) == 4_000


@given(st.text(st.characters()))
def test_unencodable_characters_are_escaped(text: str) -> None:
    assert encodable(text).encode().decode() == encodable(text)
    assert encodable("é\udcff") == "é\\udcff"


def test_a_payload_that_is_not_utf_8_is_escaped() -> None:
    assert decoded("é".encode() + b"\xff") == "é\\xff"


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [
        (0, "event", "0 events"),
        (1, "event", "1 event"),
        (2_000, "event", "2,000 events"),
        (1, "entry", "1 entry"),
        (3, "entry", "3 entries"),
        (2, "key", "2 keys"),
    ],
)
def test_a_number_agrees_with_its_noun(number: int, noun: str, expected: str) -> None:
    assert counted(number, noun) == expected
