"""The judge of appends: what each writer was told, against the log as a plain client reads it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.fault.appends.attempts import Attempt, Part, Told
from tests.fault.checker.case import NEVER, Recorded
from tests.fault.checker.chain import START, chain_value
from tests.fault.checker.history import Message

PASSING = {"append_unknown", "connection_lost", "timeout", "request_timeout", "no_responders"}
"""Codes of errors after which an append may or may not be recorded, or could not be made."""


@dataclass
class Known:
    """All attempts at one append: since when it was asked for, and from when it was recorded."""

    attempts: list[Attempt] = field(default_factory=list)

    @property
    def asked(self) -> int:
        return min(each.asked for each in self.attempts)

    @property
    def acknowledged(self) -> int:
        told = (each.answered for each in self.attempts if each.result == "recorded")
        return min(told, default=NEVER)


class Case:
    """The log and the attempts, put in order."""

    def __init__(self, log: list[Message], attempts: list[Attempt]) -> None:
        self.log = [Recorded.of(message) for message in log]
        self.attempts = attempts
        self.by_id = {event.id: event for event in self.log}
        self.appends: dict[int, Known] = defaultdict(Known)
        self.owner: dict[str, Known] = {}
        for attempt in attempts:
            known = self.appends[attempt.number]
            known.attempts.append(attempt)
            self.owner.update(dict.fromkeys(attempt.event_ids, known))
        self.aggregates: dict[str, list[Recorded]] = defaultdict(list)
        for event in self.log:
            self.aggregates[event.aggregate_id].append(event)


def judge(log: list[Message], attempts: list[Attempt]) -> list[str]:
    """All that is wrong."""
    case = Case(log, attempts)
    return [what for check in _CHECKS for what in check(case)]


def _log_is_whole(case: Case) -> Iterator[str]:
    for event_id, times in Counter(event.id for event in case.log).items():
        if times > 1:
            yield f"event {event_id} is recorded {times} times"
    for events in case.aggregates.values():
        chain = START
        for version, event in enumerate(events, 1):
            message = event.message
            chain = chain_value(chain, message.subject, message.headers, message.payload)
            if event.version != version or message.headers["X-Chain"] != chain:
                yield f"{event} does not follow from the event before it"


def _all_or_none(case: Case) -> Iterator[str]:
    for number, known in case.appends.items():
        wanted = known.attempts[0].event_ids
        found = [case.by_id[each].position for each in wanted if each in case.by_id]
        if found and found != list(range(found[0], found[0] + len(wanted))):
            yield f"append {number} is not recorded at once: {found} of {len(wanted)} events"


def _acknowledged(case: Case) -> Iterator[str]:
    for attempt in case.attempts:
        for part, told in zip(attempt.parts, attempt.told, strict=False):
            if problem := _problem(case, part, told):
                yield f"append {attempt.number}, {part}: {problem}; it was told {told}"


def _problem(case: Case, part: Part, told: Told) -> str:
    events = [case.by_id[each] for each in part.event_ids if each in case.by_id]
    if len(events) < len(part.event_ids):
        return "it was acknowledged, and is lost"
    first, last = events[0], events[-1]
    if (last.version, [each.position for each in events]) != (told.version, told.positions):
        return f"it is recorded up to {last}"
    if told.duplicate:
        return ""
    due = {"any": True, "no_stream": first.version == 1, "stream_exists": first.version > 1}
    if not due.get(str(part.expected), first.version - 1 == part.expected):
        return f"it was recorded against its expectation, from {first}"
    return ""


def _refused(case: Case) -> Iterator[str]:
    for attempt in case.attempts:
        if attempt.result == "conflict":
            if case.appends[attempt.number].acknowledged < attempt.asked:
                yield f"append {attempt.number} was recorded before, and is refused: {attempt}"
            elif not any(_may_conflict(case, attempt, part) for part in attempt.parts):
                yield f"append {attempt.number} had no conflict: {attempt}"
        elif attempt.result not in PASSING | {"recorded"}:
            yield f"append {attempt.number} failed: {attempt}"


def _may_conflict(case: Case, attempt: Attempt, part: Part) -> bool:
    """Whether the aggregate may have had another version than expected at some moment."""
    events = case.aggregates[part.aggregate_id]
    if part.expected == "any":
        return False
    if part.expected == "stream_exists":
        return not events or case.owner[events[0].id].acknowledged >= attempt.asked
    version = 0 if part.expected == "no_stream" else int(part.expected)
    later = any(case.owner[each.id].asked <= attempt.answered for each in events[version:])
    earlier = any(case.owner[each.id].acknowledged >= attempt.asked for each in events[:version])
    return later or earlier or len(events) < version


def _in_real_time(case: Case) -> Iterator[str]:
    for events in case.aggregates.values():
        latest = 0
        for event in events:
            known = case.owner[event.id]
            if known.acknowledged < latest:
                yield f"{event} was acknowledged before an append was begun that it follows"
            latest = max(latest, known.asked)


_CHECKS: list[Callable[[Case], Iterator[str]]] = [
    _log_is_whole,
    _all_or_none,
    _acknowledged,
    _refused,
    _in_real_time,
]
