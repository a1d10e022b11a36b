"""The judge: what must hold of a history, each promise as one function that yields what breaks it.

It knows the wire contract and the rules of the bank (`fold`), and nothing of the library.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from tests.fault.checker.case import NEVER, Case, Known, Recorded
from tests.fault.checker.chain import START, chain_value
from tests.fault.checker.fold import Decision, decide, movement
from tests.fault.checker.history import History, Message, Question


class Finding(NamedTuple):
    """What must not be: of which kind, and what exactly."""

    kind: str
    what: str


KINDS = {
    "lost": "acknowledged, and not in the log",
    "doubled": "carried out or recorded twice",
    "wrong outcome": "told or decided what does not follow from the log",
    "out of order": "decided before what was acknowledged when it was sent",
    "broken log": "a gap between versions, or a wrong chain value",
    "rows differing": "tables that are not the fold of the log",
    "published twice": "in the event stream more than once",
    "not published": "missing in the event stream, or changed or out of order there",
    "wrong answer": "queries that were answered with other rows than those of their position",
    "not settled": "commands without an outcome, parked messages, and what never came to rest",
}
"""All kinds of findings."""


def judge(history: History) -> list[Finding]:
    """All that is wrong with a history."""
    case = Case(history)
    return [
        Finding(kind, what)
        for kind, checks in _CHECKS.items()
        for check in checks
        for what in check(case)
    ]


def _lost(case: Case) -> Iterator[str]:
    recorded = {event.id for event in case.events}
    for command in case.sent.values():
        for outcome in command.outcomes:
            missing = set(outcome["event_ids"]) - recorded
            if missing:
                yield f"{command}: was told {sorted(missing)}"


def _lost_transfers(case: Case) -> Iterator[str]:
    arrived = _arrivals(case)
    for event in case.events:
        if event.type == "Sent" and not arrived[event.id]:
            yield f"{event}: neither received nor refunded"


def _doubled(case: Case) -> Iterator[str]:
    for event_id, times in Counter(event.id for event in case.events).items():
        if times > 1:
            yield f"event {event_id} is recorded {times} times"
    for cause, events in case.by_cause.items():
        if any(after.version != before.version + 1 for before, after in pairwise(events)):
            yield f"command {cause} was carried out again: {', '.join(map(str, events))}"


def _doubled_transfers(case: Case) -> Iterator[str]:
    for transfer, events in _arrivals(case).items():
        if len(events) > 1:
            yield f"transfer {transfer} arrived {len(events)} times: {', '.join(map(str, events))}"


def _arrivals(case: Case) -> dict[str, list[Recorded]]:
    found: dict[str, list[Recorded]] = defaultdict(list)
    for event in case.events:
        if event.type in ("Received", "Refunded"):
            found[event.data["transfer"]].append(event)
    return found


def _wrong_decisions(case: Case) -> Iterator[str]:
    """Whatever the log has of accounts is what its commands lead to, in the states they met."""
    for cause, events in case.by_cause.items():
        command = case.commands.get(cause)
        if command is None:
            yield f"{events[0]} has a cause that nobody sent: {cause}"
            continue
        state = case.state(events[0].aggregate_id, events[0].version - 1)
        if state is None or events[0].aggregate_id != command.account:
            yield f"{command} led to {events[0]}"
            continue
        due = decide(command.account, state, command.action, command.data)
        found = Decision(tuple((event.type, event.data) for event in events))
        if due != found:
            yield f"{command} at {state}: {found} is recorded, and not {due}"


def _wrong_outcomes(case: Case) -> Iterator[str]:
    for command in case.sent.values():
        if any(_essence(one) != _essence(two) for one, two in pairwise(command.outcomes)):
            yield f"{command} had several outcomes: {command.outcomes}"
        for outcome in command.outcomes[:1]:
            problem = _problem(case, command, outcome)
            if problem:
                yield f"{command}: {problem}; it was told {outcome}"


def _essence(outcome: dict[str, Any]) -> tuple[object, ...]:
    return tuple(outcome[name] for name in ("status", "code", "version", "event_ids"))


def _problem(case: Case, command: Known, outcome: dict[str, Any]) -> str:
    """Why an outcome does not follow from the log."""
    events = case.by_cause.get(command.id, [])
    if [event.id for event in events] != list(outcome["event_ids"]):
        return f"its events are {[str(event) for event in events]}"
    if events:
        last = (events[-1].version, events[-1].position)
        wrong = outcome["status"] != "success" or last != (outcome["version"], outcome["position"])
        return f"the last of its events is {events[-1]}" if wrong else ""
    state = case.state(command.account, outcome["version"])
    if state is None:
        return "the account never had that version"
    due = decide(command.account, state, command.action, command.data)
    told = outcome["code"] if outcome["status"] == "rejected" else ""
    if outcome["status"] == "error" or due.events or due.rejection != told:
        return f"at {state} it leads to {due}"
    return ""


def _wrong_reuses(case: Case) -> Iterator[str]:
    for call in case.history.calls:
        if call.is_reuse and call.outcome and call.outcome["code"] != "command_id_reused":
            yield f"{call.command_id} was reused for {call.action}, and led to {call.outcome}"


def _other_stored_outcomes(case: Case) -> Iterator[str]:
    for command in case.sent.values():
        stored = case.history.outcomes.get(command.id)
        if stored and command.outcomes and _essence(stored) != _essence(command.outcomes[0]):
            yield f"{command}: {stored} is stored, and {command.outcomes[0]} was told"


def _out_of_order(case: Case) -> Iterator[str]:
    """An event comes after all those that were acknowledged before its command was sent."""
    for (aggregate, _), events in case.by_aggregate.items():
        latest = 0
        for event in events if aggregate == "account" else ():
            if _answered(case, event) < latest:
                yield f"{event} was acknowledged before a command was sent that it follows"
            command = case.commands.get(event.cause)
            latest = max(latest, command.asked if command else 0)


def _answered(case: Case, event: Recorded) -> int:
    command = case.commands.get(event.cause)
    return command.answered if command else NEVER


def _stale_outcomes(case: Case) -> Iterator[str]:
    """A decision for no events was made on no older a state than was acknowledged before."""
    for command in case.sent.values():
        if command.outcomes and not command.outcomes[0]["event_ids"]:
            version = command.outcomes[0]["version"]
            events = case.by_aggregate.get(("account", command.account), [])
            for event in events[version:]:
                if _answered(case, event) < command.asked:
                    yield f"{command} was decided at version {version}, before {event}"


def _broken_log(case: Case) -> Iterator[str]:
    for events in case.by_aggregate.values():
        chain = START
        for version, event in enumerate(events, 1):
            message = event.message
            chain = chain_value(chain, message.subject, message.headers, message.payload)
            if event.version != version:
                yield f"{event} is number {version}"
            if message.headers["X-Chain"] != chain:
                yield f"{event} does not follow from the event before it"
                chain = message.headers["X-Chain"]


def _rows_differing(case: Case) -> Iterator[str]:
    for table, due in expected_rows(case).items():
        found = Counter(map(tuple, case.history.rows.get(table, [])))
        wanted = Counter(due)
        yield from (f"{table} has {row}, which it should not" for row in found - wanted)
        yield from (f"{table} lacks {row}" for row in wanted - found)


def expected_rows(case: Case) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each table, as a fold of the log has them."""
    end = case.events[-1].position if case.events else 0
    moved = (
        (event.aggregate_id, event.version, movement(event.type, event.data))
        for event in case.events
        if event.aggregate == "account"
    )
    return {
        "balance": [
            (name, states[-1].limit, states[-1].balance) for name, states in case.states.items()
        ],
        "movement": [row for row in moved if row[2] is not None],
        "eventstore_audit_event": [
            (each.position, each.id, each.type, each.aggregate, each.aggregate_id, each.version)
            for each in case.events
        ],
        "eventstore_projection": [("accounts", end), ("statement", end)],
    }


def _published_twice(case: Case) -> Iterator[str]:
    counts = Counter(message.headers.get("X-Event-ID") for message in case.history.published)
    for event_id, times in counts.items():
        if times > 1:
            yield f"event {event_id} is published {times} times"


def _not_published(case: Case) -> Iterator[str]:
    published: dict[str, Message] = {}
    for message in case.history.published:
        published.setdefault(message.headers.get("X-Event-ID", ""), message)
    for event in case.events:
        if event.id not in published:
            yield f"{event} is not published"
        elif not _is_same(event, message := published.pop(event.id)):
            yield f"{event} is published as {message}"
    yield from (f"{message} is published, and no event" for message in published.values())
    positions = [int(each.headers["X-Position"]) for each in case.history.published]
    for before, after in pairwise(positions):
        if after < before:
            yield f"position {after} is published after {before}"


def _is_same(event: Recorded, message: Message) -> bool:
    names = ("X-Event-ID", "X-Event-Type", "X-Aggregate-ID", "X-Aggregate-Version")
    return (
        all(event.message.headers[name] == message.headers.get(name) for name in names)
        and message.headers.get("X-Position") == str(event.position)
        and message.payload == event.message.payload
        and message.subject.split(".")[1:3] == ["event", event.aggregate]
    )


def _wrong_answers(case: Case) -> Iterator[str]:
    for question in case.history.questions:
        due = _answer(case, question)
        if question.position < question.wanted:
            yield f"{question} does not reflect {question.wanted}"
        if question.row != due:
            yield f"{question} should have been {due}"


def _answer(case: Case, question: Question) -> dict[str, int] | None:
    events = case.by_aggregate.get(("account", question.account), [])
    version = sum(event.position <= question.position for event in events)
    state = case.state(question.account, version)
    if state is None or not state.is_open:
        return None
    return {"balance": state.balance, "limit": state.limit}


def _not_settled(case: Case) -> Iterator[str]:
    yield from case.history.unsettled
    yield from (f"{command} has no outcome" for command in case.sent.values() if _is_open(command))
    reused = {call.command_id for call in case.history.calls if call.is_reuse}
    for message in case.history.parked:
        parked = json.loads(message.payload)
        if parked["code"] != "command_id_reused" or parked["command_id"] not in reused:
            yield f"{parked['subject']} is parked: {parked['code']}, {parked['reason']}"


def _is_open(command: Known) -> bool:
    return command.answered == NEVER


_CHECKS: dict[str, list[Callable[[Case], Iterator[str]]]] = {
    "lost": [_lost, _lost_transfers],
    "doubled": [_doubled, _doubled_transfers],
    "wrong outcome": [_wrong_decisions, _wrong_outcomes, _wrong_reuses, _other_stored_outcomes],
    "out of order": [_out_of_order, _stale_outcomes],
    "broken log": [_broken_log],
    "rows differing": [_rows_differing],
    "published twice": [_published_twice],
    "not published": [_not_published],
    "wrong answer": [_wrong_answers],
    "not settled": [_not_settled],
}
