"""A story as a tree of causes: who caused whom, from messages that name their causes.

Built without recursion and without trust: a cause may be unknown, or lie in another story, and in
forged data a message may have caused itself by way of others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from msgspec import Struct

from eventstore.audit.entries import Entry

__all__ = ["CausationEntry", "CausationTree", "tell"]


class CausationEntry(Struct, frozen=True, kw_only=True):
    """One message of a story, told in the order of the tree: a cause, then all it has led to.

    `entry` is None for a message that is known only because another one names it as its cause.
    `depth` counts the causes above it; `hidden` is how much lies below it that is not told.
    `circular`: its cause is among its own effects.
    """

    id: str
    depth: int
    entry: Entry | None
    hidden: int = 0
    circular: bool = False


class CausationTree(Struct, frozen=True, kw_only=True):
    """All messages of one story.

    `asked` is the id that was asked for. `events` and `commands` count all there are;
    `untold` is how many of them are not among the lines, because there are too many.
    """

    correlation_id: str
    asked: str
    events: int
    commands: int
    untold: int
    lines: tuple[CausationEntry, ...]


def tell(entries: Iterable[Entry], max_depth: int | None = None) -> tuple[CausationEntry, ...]:
    """The entries as a tree of causes, siblings in the order of time.

    What lies deeper than `max_depth` is counted, not told.
    """
    by_id = {entry.id: entry for entry in sorted(entries, key=lambda entry: entry.order)}
    children: dict[str, list[str]] = defaultdict(list)
    roots: list[str] = []
    for entry in by_id.values():
        cause = entry.causation_id
        if cause is None or cause == entry.id:
            roots.append(entry.id)
        else:
            children[cause].append(entry.id)
            if cause not in by_id and len(children[cause]) == 1:
                roots.append(cause)
    told: dict[str, None] = {}
    lines = [line for root in roots for line in _below(root, by_id, children, told, max_depth)]
    for left in by_id:  # whatever no root leads to goes round in a circle
        if left not in told:
            lines.extend(_below(left, by_id, children, told, max_depth, circular=True))
    return tuple(lines)


def _below(
    root: str,
    by_id: dict[str, Entry],
    children: dict[str, list[str]],
    told: dict[str, None],
    max_depth: int | None,
    *,
    circular: bool = False,
) -> list[CausationEntry]:
    """A message and all it has led to, as far as that is not told yet."""
    lines: list[CausationEntry] = []
    waiting = [(root, 0)]
    while waiting:
        own, depth = waiting.pop()
        if own in told:
            continue
        told[own] = None
        hidden = 0
        if max_depth is not None and depth >= max_depth:
            hidden = _hide(children[own], children, told)
        else:
            waiting.extend((child, depth + 1) for child in reversed(children[own]))
        lines.append(
            CausationEntry(
                id=own,
                depth=depth,
                entry=by_id.get(own),
                hidden=hidden,
                circular=circular and depth == 0,
            )
        )
    return lines


def _hide(first: Sequence[str], children: dict[str, list[str]], told: dict[str, None]) -> int:
    """Count messages and all they have led to as told, though they are not."""
    waiting = list(first)
    count = 0
    while waiting:
        own = waiting.pop()
        if own not in told:
            told[own] = None
            count += 1
            waiting.extend(children[own])
    return count
