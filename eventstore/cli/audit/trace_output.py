"""The output of `eventstore audit trace`: a tree of messages, and whether it is verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from rich.text import Text

from eventstore.audit import AuditEntry, CausationEntry, CausationTree
from eventstore.audit.chain_check import ChainReport
from eventstore.cli.audit.index import IndexPosition
from eventstore.cli.output.terminal import STATUS_STYLES, Terminal, brief
from eventstore.cli.times import moment
from eventstore.messages.text import counted, printable

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_MAX_DRAWN = 12


class Trace(Struct, frozen=True, kw_only=True):
    """A causation tree, the position of the index, and the result of verifying it.

    `unverified` is why nothing was verified; None if that was done or not tried.
    """

    tree: CausationTree
    index: IndexPosition
    chains: tuple[ChainReport, ...] = ()
    unverified: str | None = None

    @property
    def is_broken(self) -> bool:
        """Whether an event is not as it was recorded."""
        return any(chain.problem is not None for chain in self.chains)

    def to_dict(self) -> dict[str, Any]:
        """The trace as a JSON object."""
        return {
            "position": self.index.position,
            "log_end": self.index.end,
            **msgspec.structs.asdict(self.tree),
            "chains": self.chains,
            "unverified": self.unverified,
        }


def print_trace(terminal: Terminal, trace: Trace) -> None:
    """Print a trace for people."""
    tree = trace.tree
    known = [line.entry for line in tree.lines if line.entry is not None]
    terminal.print_line(f"correlation {tree.correlation_id}", "bold")
    terminal.print_line(_summary(tree, known))
    terminal.print()
    begin = min((entry.time for entry in known), default=None)
    by_id = {entry.id: entry for entry in known}
    senders = _senders(trace, known)
    drawn = guides([line.depth for line in tree.lines])
    for line, (own, below) in zip(tree.lines, drawn, strict=True):
        entry = line.entry
        passed = None if entry is None or begin is None else entry.time - begin
        offset = "" if passed is None else f"+{_span(passed)}" if passed else "0"
        mark = ">" if line.id == tree.asked else " "
        text = Text(f"{mark}{offset:>8}  {line.id[:8]}  {own}")
        text.append(_what(line, by_id, tree), _style(line))
        text.append(printable(_sender(line, by_id, senders)))
        text.append(_marks(line))
        terminal.print(text, soft_wrap=True)
        if entry is not None and entry.status in ("rejected", "error"):
            message = f"{'':21}{below}{entry.message or ''}"
            terminal.print_line(message, STATUS_STYLES[entry.status])
    terminal.print()
    for said, style in _footer(trace):
        terminal.print_line(said, style)


def _senders(trace: Trace, known: Iterable[AuditEntry]) -> Mapping[str, str]:
    """The authenticated senders, by the ids of events and of their commands."""
    by_event = {own: who for chain in trace.chains for own, who in chain.authenticated.items()}
    causes = {entry.id: entry.causation_id for entry in known if entry.id in by_event}
    return by_event | {str(cause): by_event[own] for own, cause in causes.items()}


def _sender(
    line: CausationEntry, by_id: Mapping[str, AuditEntry], senders: Mapping[str, str]
) -> str:
    """The authenticated sender: at the command if that is shown, else at its events."""
    entry = line.entry
    cause = None if entry is None or entry.kind == "command" else entry.causation_id
    sender = None if cause in by_id and cause != line.id else senders.get(line.id)
    return "" if sender is None else f", authenticated as {sender}"


def _summary(tree: CausationTree, known: list[AuditEntry]) -> str:
    counts = {
        status: sum(entry.status == status for entry in known) for status in ("rejected", "error")
    }
    named = {"rejected": "rejected", "error": "in error"}
    ended = ", ".join(f"{count} {named[status]}" for status, count in counts.items() if count)
    parts = [
        counted(tree.commands, "command") + (f" ({ended})" if ended else ""),
        counted(tree.events, "event"),
    ]
    if known:
        first, last = min(entry.time for entry in known), max(entry.time for entry in known)
        shown = f"{moment(first)} UTC"
        parts.append(f"from {shown}, within {_span(last - first)}" if last > first else shown)
    return ", ".join(parts)


def _what(line: CausationEntry, by_id: Mapping[str, AuditEntry], tree: CausationTree) -> str:
    entry = line.entry
    if entry is None:
        return "unknown: only referenced as a cause"
    about = (entry.type or "(unknown command)", entry.aggregate, entry.aggregate_id)
    words = [brief(word) for word in about if word]
    if entry.kind == "event":
        words.append(f"v{entry.version}")
    cause = by_id.get(entry.causation_id or "")
    if entry.actor is not None and (cause is None or cause is entry or cause.actor != entry.actor):
        words.append(f"by {entry.actor}")
    text = " ".join(words)
    if entry.kind == "command":
        code = "" if entry.status == "success" else f" ({entry.code})"
        text += f": {entry.status}{code}"
    if entry.correlation_id not in (None, tree.correlation_id):
        text += f", of correlation {str(entry.correlation_id)[:8]}"
    return printable(text)


def _marks(line: CausationEntry) -> str:
    circular = ", caused by its own effects (forged?)" if line.circular else ""
    return circular + (f" [{line.hidden:,} more below]" if line.hidden else "")


def _style(line: CausationEntry) -> str:
    entry = line.entry
    if entry is None or line.circular:
        return "magenta"
    return "" if entry.status is None else STATUS_STYLES[entry.status]


def _footer(trace: Trace) -> Iterable[tuple[str, str]]:
    if trace.tree.untold:
        yield f"{trace.tree.untold:,} more messages are not shown: give a higher --limit", "yellow"
    if trace.index.about is not None:
        yield trace.index.about, "yellow"
    if trace.unverified is not None:
        yield f"not verified: {trace.unverified}", "yellow"
    verified = [chain for chain in trace.chains if chain.verified]
    if verified:
        events = counted(sum(chain.events for chain in verified), "event")
        yield f"chain verified: {_named(verified)}, {events}", "green"
    for chain in trace.chains:
        if chain.problem is not None:
            yield f"RECORD BROKEN: {_named([chain])}: {chain.problem}", "bold red"
    long = [chain for chain in trace.chains if chain.problem is None and not chain.complete]
    if long:
        yield (
            f"not verified, because it takes longer: {_named(long)}; `audit history` verifies one",
            "yellow",
        )


def _named(chains: list[ChainReport]) -> str:
    names = [f"{chain.aggregate} {chain.aggregate_id}" for chain in chains]
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} aggregates"


def _span(passed: timedelta) -> str:
    """A span in its largest unit, in at most seven characters."""
    seconds = passed.total_seconds()
    for size, unit in _UNITS:
        if seconds >= size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"


def guides(depths: Sequence[int]) -> list[tuple[str, str]]:
    """The lines before each entry of a tree: on its first line, and on further lines of its text.

    For an entry deeper than twelve, its depth is printed and only the innermost lines are drawn.
    """
    found: list[tuple[str, str]] = []
    open_at: set[int] = set()  # depths at which an entry further down has a line to come from
    for index in range(len(depths) - 1, -1, -1):
        depth = depths[index]
        outer = ["│  " if level in open_at else "   " for level in range(1, depth)]
        own = "" if depth == 0 else "├─ " if depth in open_at else "└─ "
        under = "" if depth == 0 else "│  " if depth in open_at else "   "
        has_children = index + 1 < len(depths) and depths[index + 1] > depth
        further = "│  " if has_children else "   "
        found.append((_narrow(outer, own, depth), _narrow(outer, under, depth) + further))
        open_at = {level for level in open_at if level <= depth} | ({depth} if depth else set())
    found.reverse()
    return found


def _narrow(outer: list[str], last: str, depth: int) -> str:
    if depth <= _MAX_DRAWN:
        return "".join(outer) + last
    return f"{depth:<3}" + "".join(outer[-_MAX_DRAWN + 2 :]) + last
