"""A history put in order for the judge: events by aggregate, states, commands with their times."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.fault.checker.fold import Account, evolve
from tests.fault.checker.history import Call, History, Message

NEVER = 1 << 63
"""Later than any time."""


@dataclass(frozen=True)
class Recorded:
    """An event of the log, read from its subject, headers and payload."""

    position: int
    aggregate: str
    aggregate_id: str
    id: str
    type: str
    version: int
    cause: str
    data: dict[str, Any]
    message: Message

    @classmethod
    def of(cls, message: Message) -> Recorded:
        """The event in a message of the log."""
        _, _, aggregate, aggregate_id = message.subject.split(".")
        headers = message.headers
        return cls(
            position=message.sequence,
            aggregate=aggregate,
            aggregate_id=aggregate_id,
            id=headers["X-Event-ID"],
            type=headers["X-Event-Type"],
            version=int(headers["X-Aggregate-Version"]),
            cause=headers["X-Causation-ID"],
            data=json.loads(message.payload),
            message=message,
        )

    def __str__(self) -> str:
        return f"{self.type} {self.aggregate}/{self.aggregate_id} v{self.version} @{self.position}"


@dataclass
class Known:
    """A command: what it asked for, since when, and from when an outcome was known.

    Of the process's commands the times are open, for nobody was told their outcomes.
    """

    id: str
    action: str
    account: str
    data: dict[str, Any]
    asked: int = 0
    answered: int = NEVER
    outcomes: list[dict[str, Any]] = field(default_factory=list)

    def add(self, call: Call) -> None:
        """Another attempt to have it carried out."""
        self.asked = min(self.asked, call.asked)
        if call.outcome is not None:
            self.outcomes.append(call.outcome)
            self.answered = min(self.answered, call.answered or NEVER)

    def __str__(self) -> str:
        return f"{self.action} {self.data} of {self.account} ({self.id})"


class Case:
    """A history, and what the judge looks up in it again and again."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.events = [Recorded.of(message) for message in history.log]

    @cached_property
    def by_aggregate(self) -> dict[tuple[str, str], list[Recorded]]:
        """The events of each aggregate, in the order of the log."""
        found: dict[tuple[str, str], list[Recorded]] = defaultdict(list)
        for event in self.events:
            found[event.aggregate, event.aggregate_id].append(event)
        return found

    @cached_property
    def by_cause(self) -> dict[str, list[Recorded]]:
        """The events of accounts that each command caused, in the order of the log."""
        found: dict[str, list[Recorded]] = defaultdict(list)
        for event in self.events:
            if event.aggregate == "account":
                found[event.cause].append(event)
        return found

    @cached_property
    def states(self) -> dict[str, list[Account]]:
        """The states of each account: before its first event, and after each."""
        return {
            name: list(_states(events))
            for (aggregate, name), events in self.by_aggregate.items()
            if aggregate == "account"
        }

    def state(self, account: str, version: int) -> Account | None:
        """The state of an account at a version; None if it never had that."""
        states = self.states.get(account, [Account()])
        return states[version] if 0 <= version < len(states) else None

    @cached_property
    def sent(self) -> dict[str, Known]:
        """The commands that clients sent."""
        found: dict[str, Known] = {}
        for call in self.history.calls:
            if not call.is_reuse:
                new = Known(call.command_id, call.action, call.account, call.data, call.asked)
                found.setdefault(call.command_id, new).add(call)
        return found

    @cached_property
    def commands(self) -> dict[str, Known]:
        """The commands that clients sent, and those that the process has recorded to send."""
        return self.sent | {
            each["id"]: Known(each["id"], each["action"], each["to"], each["data"])
            for event in self.events
            if event.type == "TransfersReacted"
            for each in event.data["commands"]
        }


def _states(events: list[Recorded]) -> Iterator[Account]:
    state = Account()
    yield state
    for event in events:
        state = evolve(state, event.type, event.data)
        yield state
