"""What a changed contract breaks, and for whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

from eventstore.contracts.contract import Contract, MessageContract
from eventstore.contracts.schemas import Comparison, Side

For = Literal["stored events", "subscribers", "senders", "askers"]
"""Who is affected: this application, which reads what it stored; readers of its published events;
senders of its commands; and those who send its queries and read the answers."""


class BreakingChange(Struct, frozen=True, kw_only=True):
    """One change that breaks something: of which message, for whom, and what it is."""

    message: str
    affects: For
    problem: str

    def __str__(self) -> str:
        return f"{self.message}: {self.problem} (breaks {self.affects})"


def breaking_changes(before: Contract, now: Contract) -> list[BreakingChange]:
    """What would break whoever relies on `before`, if `now` is released.

    Added messages, added fields with a default, and wider types break nothing. An event whose
    `schema_version` was raised is taken to be read by its upcasters, without which the program does
    not start; its subscribers are compared all the same.
    """
    return [*_Changes(before, now).found()]


class _Changes:
    def __init__(self, before: Contract, now: Contract) -> None:
        self._before = before
        self._now = now
        old, new = Side(before.definitions), Side(now.definitions)
        self._into_new = Comparison(giver=old, taker=new)
        self._into_old = Comparison(giver=new, taker=old, writes_defaults=True)

    def found(self) -> Iterator[BreakingChange]:
        if self._before.domain != self._now.domain:
            yield BreakingChange(
                message=f"domain {self._before.domain}",
                affects="senders",
                problem=f"is named {self._now.domain}: all subjects change",
            )
            return
        events = self._now.of_kind("event")
        for name, old in self._before.of_kind("event").items():
            yield from self._event(old, events.get(name))
        commands = self._now.of_kind("command")
        for subject, old in self._before.of_kind("command").items():
            yield from self._command(old, commands.get(subject))
        queries = self._now.of_kind("query")
        for subject, old in self._before.of_kind("query").items():
            yield from self._query(old, queries.get(subject))

    def _event(self, old: MessageContract, new: MessageContract | None) -> Iterator[BreakingChange]:
        what = f"event {old.name}"
        is_upcast = f"{old.name} {old.schema_version}" in self._now.upcast
        if new is None:
            if not is_upcast:
                yield _change(what, "stored events", "is gone, and no upcaster reads it")
            yield _change(what, "subscribers", "is not published any more")
            return
        if new.subject != old.subject:
            yield _change(what, "subscribers", f"is published on {new.subject}")
        if new.schema_version < old.schema_version:
            problem = f"has schema version {new.schema_version}, and had {old.schema_version}"
            yield _change(what, "stored events", problem)
        if new.since > old.since:
            problem = f"is read since version {new.since}, and was since {old.since}"
            yield _change(what, "stored events", problem)
        if new.schema_version == old.schema_version:
            for problem in self._into_new.problems(old.schema, new.schema, "data"):
                yield _change(what, "stored events", f"{problem}; raise schema_version")
        for problem in self._into_old.problems(new.schema, old.schema, "data"):
            yield _change(what, "subscribers", _seen_by_old(problem))

    def _command(
        self, old: MessageContract, new: MessageContract | None
    ) -> Iterator[BreakingChange]:
        what = f"command {old.name}"
        if new is None:
            yield _change(what, "senders", f"{old.subject} is not carried out any more")
            return
        if old.creates and not new.creates:
            yield _change(what, "senders", "needs an aggregate's id, and did not")
        for problem in self._into_new.problems(old.schema, new.schema, "data"):
            yield _change(what, "senders", problem)

    def _query(self, old: MessageContract, new: MessageContract | None) -> Iterator[BreakingChange]:
        what = f"query {old.name}"
        if new is None:
            yield _change(what, "askers", f"{old.subject} is not answered any more")
            return
        for problem in self._into_new.problems(old.schema, new.schema, "data"):
            yield _change(what, "askers", problem)
        for problem in self._into_old.problems(new.answer or {}, old.answer or {}, "answer"):
            yield _change(what, "askers", _seen_by_old(problem))


def _change(message: str, affects: For, problem: str) -> BreakingChange:
    return BreakingChange(message=message, affects=affects, problem=problem)


def _seen_by_old(problem: str) -> str:
    return f"a reader of the earlier contract is given what it refuses: {problem}"
