"""The lines of a tree on a terminal, made from nothing but the depth of each entry."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

__all__ = ["Guide", "guides"]

_WIDEST = 12


class Guide(Struct, frozen=True):
    """What is drawn before an entry: `own` on its line, `below` on further lines of its text."""

    own: str
    below: str


def guides(depths: Sequence[int]) -> list[Guide]:
    """The guides of entries in the order of the tree.

    Of those that are deeper than twelve, the depth is told and only the innermost are drawn.
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
    if depth <= _WIDEST:
        return "".join(outer) + last
    return f"{depth:<3}" + "".join(outer[-_WIDEST + 2 :]) + last
