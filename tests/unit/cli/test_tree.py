from __future__ import annotations

import pytest

from eventstore.cli.audit.trace_output import guides


@pytest.mark.parametrize(
    ("depths", "lines"),
    [
        ([], []),
        ([0, 0], ["x", "x"]),
        (
            [0, 1, 2, 2, 1, 2, 0, 1],
            ["x", "├─ x", "│  ├─ x", "│  └─ x", "└─ x", "   └─ x", "x", "└─ x"],
        ),
        ([0, 1, 2, 3, 1], ["x", "├─ x", "│  └─ x", "│     └─ x", "└─ x"]),
    ],
)
def test_a_tree_is_drawn_from_its_depths(depths: list[int], lines: list[str]) -> None:
    assert [f"{own}x" for own, _ in guides(depths)] == lines


def test_further_lines_of_a_text_are_indented_within_the_tree() -> None:
    further = [below for _, below in guides([0, 1, 2, 1])]
    assert further == ["│  ", "│  │  ", "│        ", "      "]


def test_a_very_deep_tree_stays_narrow() -> None:
    branches = [own for own, _ in guides(list(range(5_000)))]
    assert max(map(len, branches)) <= 40
    assert branches[4_321].startswith("4321")
