"""The causation tree of a correlation: which message caused which.

Built without recursion from untrusted data: a cause may be unknown or of another correlation, and
in forged data causes may be circular.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from eventstore.audit.entries import AuditEntry


class CausationEntry(Struct, frozen=True, kw_only=True):
    """One message of the tree, in depth-first order: a cause, then all its effects.

    `entry` is None for a message that is known only because another one names it as its cause.
    `depth` counts its causes; `hidden` is how many of its effects are not listed.
    `circular`: its cause is among its own effects.
    """

    id: str
    depth: int
    entry: AuditEntry | None
    hidden: int = 0
    circular: bool = False


class CausationTree(Struct, frozen=True, kw_only=True):
    """All messages of one correlation.

    `asked` is the id that was requested. `events` and `commands` count all there are;
    `untold` is how many of them are not among the `lines`, because there are too many.
    """

    correlation_id: str
    asked: str
    events: int
    commands: int
    untold: int
    lines: tuple[CausationEntry, ...]


def causation_entries(
    entries: Iterable[AuditEntry], max_depth: int | None = None
) -> tuple[CausationEntry, ...]:
    """The causation tree in depth-first order, siblings by time.

    What is deeper than `max_depth` is counted, not listed.
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
    listed: set[str] = set()
    lines = [line for root in roots for line in _below(root, by_id, children, listed, max_depth)]
    for unlisted in by_id:  # what no root leads to is circular
        if unlisted not in listed:
            lines.extend(_below(unlisted, by_id, children, listed, max_depth, circular=True))
    return tuple(lines)


def _below(
    root: str,
    by_id: dict[str, AuditEntry],
    children: dict[str, list[str]],
    listed: set[str],
    max_depth: int | None,
    *,
    circular: bool = False,
) -> list[CausationEntry]:
    """A message and its effects, as far as they are not listed yet."""
    lines: list[CausationEntry] = []
    waiting = [(root, 0)]
    while waiting:
        own, depth = waiting.pop()
        if own in listed:
            continue
        listed.add(own)
        waiting.extend((child, depth + 1) for child in reversed(children[own]))
        if max_depth is None or depth <= max_depth:
            lines.append(
                CausationEntry(
                    id=own,
                    depth=depth,
                    entry=by_id.get(own),
                    circular=circular and depth == 0,
                )
            )
        else:  # below the last entry, which has the maximum depth
            lines[-1] = replace(lines[-1], hidden=lines[-1].hidden + 1)
    return lines
