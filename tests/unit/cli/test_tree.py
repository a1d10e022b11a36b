from __future__ import annotations

import pytest

from eventstore.cli.output.tree import guides


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
    assert [f"{guide.own}x" for guide in guides(depths)] == lines


def test_further_lines_of_a_text_are_indented_within_the_tree() -> None:
    below = [guide.below for guide in guides([0, 1, 2, 1])]
    assert below == ["│  ", "│  │  ", "│        ", "      "]


def test_a_very_deep_tree_stays_narrow() -> None:
    drawn = guides(list(range(5_000)))
    assert max(len(guide.own) for guide in drawn) <= 40
    assert drawn[4_321].own.startswith("4321")
