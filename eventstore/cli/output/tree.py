"""The lines of a tree on a terminal, drawn from the depth of each entry."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

_MAX_DRAWN = 12


class Guide(Struct, frozen=True):
    """The lines before an entry: `own` on its first line, `below` on further lines of its text."""

    own: str
    below: str


def guides(depths: Sequence[int]) -> list[Guide]:
    """The guides of entries in the order of the tree.

    For an entry deeper than twelve, its depth is printed and only the innermost lines are drawn.
    """
    found: list[Guide] = []
    open_at: set[int] = set()  # depths at which an entry further down has a line to come from
    for index in range(len(depths) - 1, -1, -1):
        depth = depths[index]
        outer = ["│  " if level in open_at else "   " for level in range(1, depth)]
        own = "" if depth == 0 else "├─ " if depth in open_at else "└─ "
        under = "" if depth == 0 else "│  " if depth in open_at else "   "
        has_children = index + 1 < len(depths) and depths[index + 1] > depth
        further = "│  " if has_children else "   "
        found.append(Guide(_narrow(outer, own, depth), _narrow(outer, under, depth) + further))
        open_at = {level for level in open_at if level <= depth} | ({depth} if depth else set())
    found.reverse()
    return found


def _narrow(outer: list[str], last: str, depth: int) -> str:
    if depth <= _MAX_DRAWN:
        return "".join(outer) + last
    return f"{depth:<3}" + "".join(outer[-_MAX_DRAWN + 2 :]) + last
