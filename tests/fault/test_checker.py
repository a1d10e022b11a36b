"""The checker: it finds nothing in a run with faults, and all that is planted in its history.

A run waits more than it computes: for services that start, and for faults to be over.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from tests.fault.checker import case, chain, fold, raw
from tests.fault.checker import history as history_
from tests.fault.checker import judge as judge_
from tests.fault.checker.case import Case
from tests.fault.checker.history import Call, History, Message
from tests.fault.checker.judge import KINDS, Finding, judge
from tests.fault.checker.report import counts, found, recoveries
from tests.fault.checker.run import Run
from tests.fault.checker.system import Shape

FAULTS = ["lose answers", "kill service", "lock database", "kill server", "delay requests"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The history of a run with some faults, to be copied."""
    shape = Shape(clients=1, small_disks=False, fake_time=False)
    run = Run(tmp_path_factory.mktemp("checker"), shape, seed=7, scale=0.1, lanes=8, pause_ms=30)
    return msgspec.json.encode(asyncio.run(run.under(FAULTS)))


@pytest.fixture
def history(recorded: bytes) -> History:
    return msgspec.json.decode(recorded, type=History)


def test_nothing_is_found_in_a_run_with_faults(history: History) -> None:
    assert judge(history) == []
    assert [fault.kind for fault in history.faults] == FAULTS
    assert len({call.command_id for call in history.calls if call.outcome}) > 20
    assert {event.type for event in Case(history).events} >= {"Opened", "Deposited", "Withdrawn"}


def test_the_table_names_every_kind_of_finding_and_of_fault(history: History) -> None:
    table = "\n".join([*counts(history), *recoveries(history), *found([Finding("lost", "this")])])
    for name in (*KINDS, *FAULTS, "this", f"{len(history.faults):,}  faults"):
        assert name in table


def success(history: History, events: int = 1) -> Call:
    """A command that was acknowledged, with some events."""
    return next(
        call
        for call in history.calls
        if call.outcome is not None and len(call.outcome["event_ids"]) == events
    )


def rejection(history: History) -> Call:
    return next(
        call
        for call in history.calls
        if call.outcome is not None and call.outcome["status"] == "rejected"
    )


def event_of(history: History, call: Call) -> Message:
    assert call.outcome is not None
    (event_id,) = call.outcome["event_ids"]
    return next(each for each in history.log if each.headers["X-Event-ID"] == event_id)


def an_event_is_lost(history: History) -> None:
    history.log.remove(event_of(history, success(history)))


def an_event_is_recorded_twice(history: History) -> None:
    again = msgspec.structs.replace(history.log[0], sequence=history.log[-1].sequence + 1)
    history.log.append(again)


def an_event_is_changed(history: History) -> None:
    event = event_of(history, success(history))
    event.payload = event.payload.replace(b":", b": ")


def events_are_swapped(history: History) -> None:
    """The first and the last event of the account with the most of them change places."""
    events = max(Case(history).by_aggregate.values(), key=len)
    one, other = events[0].message, events[-1].message
    first, last = history.log.index(one), history.log.index(other)
    history.log[first], history.log[last] = other, one


def a_row_is_changed(history: History) -> None:
    name, limit, balance = history.rows["balance"][0]
    history.rows["balance"][0] = (name, limit, balance + 1)


def a_row_is_missing(history: History) -> None:
    history.rows["movement"].pop()


def a_checkpoint_is_behind(history: History) -> None:
    name, position = history.rows["eventstore_projection"][0]
    history.rows["eventstore_projection"][0] = (name, position - 1)


def an_event_is_published_twice(history: History) -> None:
    history.published.append(history.published[0])


def an_event_is_not_published(history: History) -> None:
    del history.published[len(history.published) // 2]


def events_are_published_in_another_order(history: History) -> None:
    history.published[0], history.published[1] = history.published[1], history.published[0]


def a_success_is_told_as_a_rejection(history: History) -> None:
    outcome = success(history).outcome
    assert outcome is not None
    outcome.update(status="rejected", code="not_covered", event_ids=[])


def a_rejection_has_another_code(history: History) -> None:
    outcome = rejection(history).outcome
    assert outcome is not None
    outcome["code"] = "another"


def a_repeat_is_told_something_else(history: History) -> None:
    call = success(history)
    assert call.outcome is not None
    other = call.outcome | {"version": call.outcome["version"] + 1}
    history.calls.append(msgspec.structs.replace(call, outcome=other))


def a_rejection_is_decided_on_an_old_state(history: History) -> None:
    """The same rejection, of a command that was sent when all others had been acknowledged."""
    call = rejection(history)
    end = max(each.answered or 0 for each in history.calls)
    late = msgspec.structs.replace(call, asked=end + 1, answered=end + 2)
    late.outcome = dict(call.outcome or {}, version=0, code="not_open")
    late = msgspec.structs.replace(late, command_id="late", action="withdraw", data={"amount": 1})
    late.account = success(history).account
    history.calls.append(late)


def a_command_is_acknowledged_before_it_is_decided(history: History) -> None:
    """Its event comes after that of a command that was sent after it was acknowledged."""
    sent = {call.command_id for call in history.calls}
    for events in Case(history).by_aggregate.values():
        causes = [event.cause for event in events if event.cause in sent]
        if len(set(causes)) > 1:
            for call in history.calls:
                if call.command_id == causes[-1]:
                    call.asked, call.answered = 0, 1
            return


def a_query_is_answered_with_another_balance(history: History) -> None:
    row = history.questions[0].row
    assert row is not None
    row["balance"] += 1


def a_query_is_answered_too_early(history: History) -> None:
    history.questions[0].wanted = history.questions[0].position + 1


def a_command_has_no_outcome(history: History) -> None:
    call = rejection(history)
    for each in history.calls:
        if each.command_id == call.command_id:
            each.outcome = None


def money_arrives_twice(history: History) -> None:
    """A second arrival of a transfer, as correct by itself as the first."""
    events = Case(history).events
    first = next(event for event in events if event.type in ("Received", "Refunded"))
    again = msgspec.structs.replace(first.message, sequence=events[-1].position + 1)
    again.headers = again.headers | {"X-Event-ID": "again"}
    history.log.append(again)


PLANTED: dict[Callable[[History], None], str] = {
    an_event_is_lost: "lost",
    an_event_is_recorded_twice: "doubled",
    money_arrives_twice: "doubled",
    an_event_is_changed: "broken log",
    events_are_swapped: "broken log",
    a_command_is_acknowledged_before_it_is_decided: "out of order",
    a_rejection_is_decided_on_an_old_state: "out of order",
    a_row_is_changed: "rows differing",
    a_row_is_missing: "rows differing",
    a_checkpoint_is_behind: "rows differing",
    an_event_is_published_twice: "published twice",
    an_event_is_not_published: "not published",
    events_are_published_in_another_order: "not published",
    a_success_is_told_as_a_rejection: "wrong outcome",
    a_rejection_has_another_code: "wrong outcome",
    a_repeat_is_told_something_else: "wrong outcome",
    a_query_is_answered_with_another_balance: "wrong answer",
    a_query_is_answered_too_early: "wrong answer",
    a_command_has_no_outcome: "not settled",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found(history: History, plant: Callable[[History], None]) -> None:
    plant(history)
    assert PLANTED[plant] in {finding.kind for finding in judge(history)}


def test_every_kind_of_finding_is_planted_once() -> None:
    assert {*PLANTED.values()} == {*KINDS}


@pytest.mark.parametrize("module", [case, chain, fold, history_, judge_, raw])
def test_the_judge_knows_nothing_of_the_library(module: ModuleType) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name
    }
    own = {each.__name__ for each in (case, chain, fold, history_, judge_)}
    assert not [name for name in imported if name.startswith("eventstore")]
    assert {name for name in imported if name.startswith("tests.")} <= own | {"tests.fault.checker"}


def test_a_history_is_the_same_after_it_was_saved(history: History, tmp_path: Path) -> None:
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == history
