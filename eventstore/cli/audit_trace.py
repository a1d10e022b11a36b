"""`eventstore audit trace`: a whole story as a tree of causes, and whether it was touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from eventstore.audit import CausationEntry, CausationTree, Entry, TraceStory
from eventstore.audit.chain_check import ChainReport, Witness, check_chain
from eventstore.cli.audit_index import Reach, asked_index, end_of_log
from eventstore.cli.connecting import connected
from eventstore.cli.guides import guides
from eventstore.cli.show import brief
from eventstore.cli.terminal import printable
from eventstore.config import Settings
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.subjects import Subjects

__all__ = ["Told", "print_told", "trace"]

MOST_VERIFIED = 10_000
"""How many events are read to verify a story; the answer is to come within a second."""

_STYLES = {"success": "green", "rejected": "yellow", "error": "red"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Told(Struct, frozen=True, kw_only=True):
    """A story, how far the index has come, and what became of verifying it.

    `unverified` says why nothing was verified, None where that was not tried or was done.
    """

    story: CausationTree
    reach: Reach
    chains: tuple[ChainReport, ...] = ()
    unverified: str | None = None

    @property
    def is_broken(self) -> bool:
        """Whether an event is not as it was recorded."""
        return any(chain.problem is not None for chain in self.chains)

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "position": self.reach.position,
            "log_end": self.reach.end,
            **msgspec.structs.asdict(self.story),
            "chains": self.chains,
            "unverified": self.unverified,
        }


async def trace(settings: Settings, query: TraceStory, *, verify: bool) -> Told:
    """Tell the story from the index, and follow the chains of its aggregates in the log.

    Where the log cannot be asked, the story is told all the same. Raises `QueryNotFound` and
    `NoAuditIndex`.
    """
    async with asked_index(settings) as index:
        position = await index.position()
        story = await index.trace(query)
    chains: tuple[ChainReport, ...] = ()
    try:
        async with connected(settings) as client:
            end = await end_of_log(client, settings)
            subjects = Subjects(settings.nats.subject_prefix)
            if verify:
                async with DirectReader(client, subjects.log_stream) as reader:
                    chains = await _verify(reader, subjects, story)
    except (ClientError, StreamMissing) as error:
        why = str(error) if verify else None
        return Told(story=story, reach=Reach(position, None), unverified=why)
    return Told(story=story, reach=Reach(position, end), chains=chains)


async def _verify(
    reader: DirectReader, subjects: Subjects, story: CausationTree
) -> tuple[ChainReport, ...]:
    """Follow the chains of the story's aggregates, as many as there is time for."""
    reports = []
    left = MOST_VERIFIED
    for subject, witnesses in _witnesses(subjects, story.lines).items():
        report = await check_chain(reader, subject, witnesses=witnesses, most=left)
        reports.append(report)
        left -= report.events
    return tuple(reports)


def _witnesses(
    subjects: Subjects, lines: Iterable[CausationEntry]
) -> Mapping[str, dict[int, Witness]]:
    """What the index remembers of the events told, for each aggregate."""
    found: dict[str, dict[int, Witness]] = {}
    for line in lines:
        entry = line.entry
        if entry is not None and entry.kind == "event":
            subject = subjects.log(str(entry.aggregate), str(entry.aggregate_id))
            witness = Witness(entry.id, str(entry.type), entry.chain)
            found.setdefault(subject, {})[entry.position] = witness
    return found


def print_told(console: Console, told: Told) -> None:
    """The story as a person reads it."""
    story = told.story
    known = [line.entry for line in story.lines if line.entry is not None]
    _print(console, f"story {story.correlation_id}", "bold")
    _print(console, _summary(story, known))
    console.print()
    begin = min((entry.time for entry in known), default=None)
    by_id = {entry.id: entry for entry in known}
    senders = _senders(told, known)
    for line, guide in zip(story.lines, guides([line.depth for line in story.lines]), strict=True):
        entry = line.entry
        offset = "" if entry is None or begin is None else _offset(entry.time - begin)
        mark = ">" if line.id == story.asked else " "
        text = Text(f"{mark}{offset:>8}  {line.id[:8]}  {guide.own}")
        text.append(_what(line, by_id, story), _style(line))
        text.append(printable(_sender(line, by_id, senders)))
        text.append(_marks(line))
        console.print(text, soft_wrap=True)
        if entry is not None and entry.status in ("rejected", "error"):
            below = f"{'':21}{guide.below}{printable(entry.message or '')}"
            _print(console, below, _STYLES[entry.status])
    console.print()
    for said, style in _footer(told):
        _print(console, said, style)


def _senders(told: Told, known: Iterable[Entry]) -> Mapping[str, str]:
    """Who sent what according to the server: by the ids of events, and of their commands."""
    by_event = {own: who for chain in told.chains for own, who in chain.authenticated.items()}
    causes = {entry.id: entry.causation_id for entry in known if entry.id in by_event}
    return by_event | {str(cause): by_event[own] for own, cause in causes.items()}


def _sender(line: CausationEntry, by_id: Mapping[str, Entry], senders: Mapping[str, str]) -> str:
    """Who sent it, said once: at the command where that is shown, else at its events."""
    entry = line.entry
    cause = None if entry is None or entry.kind == "command" else entry.causation_id
    sender = None if cause in by_id and cause != line.id else senders.get(line.id)
    return "" if sender is None else f", authenticated as {sender}"


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)


def _summary(story: CausationTree, known: list[Entry]) -> str:
    counts = {
        status: sum(entry.status == status for entry in known) for status in ("rejected", "error")
    }
    named = {"rejected": "rejected", "error": "in error"}
    ended = ", ".join(f"{count} {named[status]}" for status, count in counts.items() if count)
    parts = [
        _count(story.commands, "command") + (f" ({ended})" if ended else ""),
        _count(story.events, "event"),
    ]
    if known:
        first, last = min(entry.time for entry in known), max(entry.time for entry in known)
        shown = f"{first:%Y-%m-%d %H:%M:%S} UTC"
        parts.append(f"from {shown}, within {_span(last - first)}" if last > first else shown)
    return ", ".join(parts)


def _what(line: CausationEntry, by_id: Mapping[str, Entry], story: CausationTree) -> str:
    entry = line.entry
    if entry is None:
        return "unknown: only named as a cause"
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
    if entry.correlation_id not in (None, story.correlation_id):
        text += f", of story {str(entry.correlation_id)[:8]}"
    return printable(text)


def _marks(line: CausationEntry) -> str:
    circular = ", caused by its own effects (forged?)" if line.circular else ""
    return circular + (f" [{line.hidden:,} more below]" if line.hidden else "")


def _style(line: CausationEntry) -> str:
    entry = line.entry
    if entry is None or line.circular:
        return "magenta"
    return "" if entry.status is None else _STYLES[entry.status]


def _footer(told: Told) -> Iterable[tuple[str, str]]:
    if told.story.untold:
        yield f"{told.story.untold:,} more messages are not shown: give a higher --limit", "yellow"
    if told.reach.about is not None:
        yield told.reach.about, "yellow"
    if told.unverified is not None:
        yield f"not verified: {told.unverified}", "yellow"
    verified = [chain for chain in told.chains if chain.verified]
    if verified:
        events = _count(sum(chain.events for chain in verified), "event")
        yield f"chain verified: {_named(verified)}, {events}", "green"
    for chain in told.chains:
        if chain.problem is not None:
            yield f"RECORD BROKEN: {_named([chain])}: {chain.problem}", "bold red"
    long = [chain for chain in told.chains if chain.problem is None and not chain.complete]
    if long:
        yield (
            f"not verified, for that would take longer: {_named(long)}; "
            "`audit history` verifies one",
            "yellow",
        )


def _named(chains: list[ChainReport]) -> str:
    names = [f"{chain.aggregate} {chain.aggregate_id}" for chain in chains]
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} aggregates"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _offset(passed: timedelta) -> str:
    return "0" if not passed else f"+{_span(passed)}"


def _span(passed: timedelta) -> str:
    """A span as people say it, in at most seven characters."""
    seconds = passed.total_seconds()
    for size, unit in _UNITS:
        if seconds >= size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{seconds * 1000:.0f} ms"
