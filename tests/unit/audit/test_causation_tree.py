"""The causation tree, built from messages whatever causes they claim."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eventstore.audit.causation_tree import CausationEntry, causation_entries
from eventstore.audit.entries import AuditEntry
from tests.unit.projections.memory import time_of


def entry(own: str, cause: str | None, position: int) -> AuditEntry:
    kind = "command" if own.startswith("c") else "event"
    return AuditEntry(
        kind=kind,  # type: ignore[arg-type]
        id=own,
        type="Type",
        aggregate="thing",
        aggregate_id="t",
        version=1,
        position=position,
        time=time_of(position),
        actor=None,
        correlation_id="c1",
        causation_id=cause,
    )


def lines_of(*pairs: tuple[str, str | None], max_depth: int | None = None) -> list[tuple[str, int]]:
    entries = [entry(own, cause, number) for number, (own, cause) in enumerate(pairs)]
    return [(line.id, line.depth) for line in causation_entries(entries, max_depth)]


def test_a_cause_comes_before_all_it_has_led_to() -> None:
    pairs = [("c1", "c1"), ("e1", "c1"), ("e2", "c1"), ("c2", "e1"), ("e3", "c2"), ("e4", "e3")]
    expected = [("c1", 0), ("e1", 1), ("c2", 2), ("e3", 3), ("e4", 4), ("e2", 1)]

    assert lines_of(*pairs) == expected
    assert lines_of(*pairs[:1], *reversed(pairs[1:]))[0] == ("c1", 0)


def test_an_unknown_cause_has_a_line_of_its_own() -> None:
    lines = causation_entries([entry("e1", "c9", 1), entry("e2", "c9", 2), entry("c2", None, 3)])

    assert [(line.id, line.depth) for line in lines] == [("c9", 0), ("e1", 1), ("e2", 1), ("c2", 0)]
    assert [line.entry is None for line in lines] == [True, False, False, False]


def test_circular_causes_are_listed_once_and_marked() -> None:
    lines = causation_entries([entry("e1", "e2", 1), entry("e2", "e1", 2), entry("e3", "e2", 3)])

    assert [(line.id, line.depth) for line in lines] == [("e1", 0), ("e2", 1), ("e3", 2)]
    assert [line.circular for line in lines] == [True, False, False]


def test_messages_deeper_than_the_limit_are_counted() -> None:
    entries = [entry("c1", "c1", 0), entry("e1", "c1", 1), entry("c2", "e1", 2)]
    entries += [entry("e2", "c2", 3), entry("e3", "c1", 4)]

    lines = causation_entries(entries, max_depth=1)

    assert [(line.id, line.depth, line.hidden) for line in lines] == [
        ("c1", 0, 0),
        ("e1", 1, 2),
        ("e3", 1, 0),
    ]


def test_a_very_long_chain_of_causes_is_no_problem() -> None:
    entries = [entry(f"e{number}", f"e{max(0, number - 1)}", number) for number in range(20_000)]
    assert [line.depth for line in causation_entries(entries)] == list(range(20_000))


@given(
    st.lists(st.integers(0, 12) | st.none(), max_size=12),
    st.integers(0, 4) | st.none(),
)
def test_every_message_is_listed_or_counted_once(
    causes: list[int | None], max_depth: int | None
) -> None:
    entries = [
        entry(f"e{number}", None if cause is None else f"e{cause}", number)
        for number, cause in enumerate(causes)
    ]

    lines = causation_entries(entries, max_depth)

    ids = [line.id for line in lines]
    assert len(set(ids)) == len(ids)
    known = sum(line.entry is not None for line in lines)
    assert known + sum(line.hidden for line in lines) == len(entries)
    assert_causes_come_first(lines)


def assert_causes_come_first(lines: tuple[CausationEntry, ...]) -> None:
    above: list[str] = []
    for line in lines:
        del above[line.depth :]
        if line.depth:
            assert line.entry is not None
            assert above[-1] == line.entry.causation_id
        above.append(line.id)
