"""The headers of outcomes: what is written of a command, and read again."""

from __future__ import annotations

import pytest

from eventstore.client.protocol import header_block, read_headers
from eventstore.commands.outcome_log import _read, _read_usual

WRITTEN = {
    "X-Event-Type": "Add",
    "X-Correlation-ID": "0b9a4b0f-3a3c-5f0e-9d0f-6d1c6f6f3c11",
    "X-Causation-ID": "1b9a4b0f-3a3c-5f0e-9d0f-6d1c6f6f3c11",
    "X-Actor": "Anna \u2603",
    "X-Authenticated-As": "anna",
    "X-Command-Digest": "0123456789abcdef",
    "X-Accepted-At": "2026-11-29T05:00:00.123456Z",
    "X-Deliveries": "2",
    "X-Command-Sequence": "71",
    "Nats-Expected-Last-Subject-Sequence": "0",
}


@pytest.mark.parametrize(
    "missing", [(), ("X-Actor", "X-Authenticated-As"), ("X-Command-Digest",)], ids=str
)
def test_usual_headers_are_read_as_any_others(missing: tuple[str, ...]) -> None:
    block = header_block({name: each for name, each in WRITTEN.items() if name not in missing})
    usual = _read_usual(block)
    assert usual is not None
    assert usual == _read(read_headers(block))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Event-Type", "not a type"),
        ("X-Causation-ID", "none"),
        ("X-Accepted-At", "2026-13-29T05:00:00.123456Z"),
        ("X-Deliveries", "1234567890"),
        ("X-Command-Sequence", "71\r\nX-Actor: bob"),
        ("Nats-Expected-Last-Subject-Sequence", "0\r\nX-Another: 1"),
    ],
)
def test_others_are_read_one_by_one(name: str, value: str) -> None:
    lines = "".join(f"{each}: {WRITTEN[each] if each != name else value}\r\n" for each in WRITTEN)
    assert _read_usual(header_block(lines)) is None
