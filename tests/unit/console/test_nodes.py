"""A tree of causes as nested lists and bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

from eventstore.audit import AuditEntry
from eventstore.audit.causation_tree import causation_entries
from eventstore.console.pages.stories import nodes

BEGAN = datetime(2026, 5, 4, tzinfo=UTC)


def entry(own: str, cause: str | None, seconds: float, took: float | None = None) -> AuditEntry:
    kind: Literal["command", "event"] = "event" if took is None else "command"
    time = BEGAN + timedelta(seconds=seconds)
    return AuditEntry(
        kind=kind,
        id=own,
        type=own.upper(),
        aggregate="a",
        aggregate_id="1",
        version=1,
        position=1,
        time=time,
        actor=None,
        correlation_id="c",
        causation_id=cause,
        finished_at=None if took is None else time + timedelta(seconds=took),
    )


def test_lists_are_opened_and_closed_in_pairs() -> None:
    made = nodes(
        causation_entries(
            [
                entry("c", None, 0, 10),
                entry("e1", "c", 1),
                entry("d", "e1", 2, 1),
                entry("e2", "d", 3),
                entry("e3", "c", 4),
            ]
        )
    )

    assert [(each.line.id, each.opens, each.closes) for each in made] == [
        *(("c", 1, 0), ("e1", 1, 0), ("d", 1, 0), ("e2", 1, 0)),
        ("e3", 0, 2),
    ]
    assert sum(each.opens - each.closes for each in made) == made[-1].line.depth + 1


def test_bars_are_where_their_times_are() -> None:
    command, event = nodes(causation_entries([entry("c", None, 0, 10), entry("e", "c", 5)]))

    assert (command.start, command.width, command.took) == (0.0, 100.0, 10.0)
    assert (event.start, event.took, event.offset) == (50.0, None, 5.0)
    assert 0 < event.width < 1


def test_a_forged_circle_and_an_unknown_cause_are_drawn_too() -> None:
    made = nodes(causation_entries([entry("a", "b", 0), entry("b", "a", 1), entry("x", "gone", 2)]))

    assert {each.line.id for each in made} == {"a", "b", "x", "gone"}
    assert all(0 <= each.start < 100 for each in made)
