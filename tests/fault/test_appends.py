"""Appends at random from several processes, under faults; the judge finds what is planted.

The long form, on one server or three, is `make appends`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from tests.fault.appends.attempts import Attempt
from tests.fault.appends.judge import judge
from tests.fault.appends.run import AppendHistory, run


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("appends")
    return msgspec.json.encode(asyncio.run(run(directory, 7, 2.5, writers=2, scale=0.1)))


@pytest.fixture
def history(recorded: bytes) -> AppendHistory:
    return msgspec.json.decode(recorded, type=AppendHistory)


def test_nothing_is_found_in_a_run_with_faults(history: AppendHistory) -> None:
    assert judge(history.log, history.attempts) == []
    assert len(history.faults) > 2
    results = {attempt.result for attempt in history.attempts}
    assert results >= {"recorded", "conflict"}
    assert any(told.duplicate for attempt in history.attempts for told in attempt.told)


def recorded_one(history: AppendHistory) -> Attempt:
    return next(each for each in history.attempts if each.told and not each.told[0].duplicate)


def an_event_is_lost(history: AppendHistory) -> str:
    (lost, *_) = recorded_one(history).event_ids
    history.log[:] = [each for each in history.log if each.headers["X-Event-ID"] != lost]
    return "is lost"


def an_event_is_recorded_twice(history: AppendHistory) -> str:
    again = msgspec.structs.replace(history.log[0], sequence=history.log[-1].sequence + 1)
    history.log.append(again)
    return "is recorded 2 times"


def an_event_is_changed(history: AppendHistory) -> str:
    history.log[-1].payload += b" "
    return "does not follow"


def another_version_is_told(history: AppendHistory) -> str:
    recorded_one(history).told[0].version += 1
    return "it is recorded up to"


def a_wrong_version_was_expected(history: AppendHistory) -> str:
    attempt = recorded_one(history)
    attempt.parts[0].expected = attempt.told[0].version + 7
    return "against its expectation"


def a_repeat_is_refused(history: AppendHistory) -> str:
    attempt = recorded_one(history)
    late = msgspec.structs.replace(attempt, asked=attempt.answered + 1, told=[])
    history.attempts.append(msgspec.structs.replace(late, result="conflict"))
    return "was recorded before"


def a_conflict_has_no_reason(history: AppendHistory) -> str:
    end = max(each.answered for each in history.attempts)
    last = history.log[-1]
    attempt = msgspec.structs.replace(recorded_one(history), number=9_999, told=[], asked=end + 1)
    attempt = msgspec.structs.replace(attempt, answered=end + 2, result="conflict")
    version = int(last.headers["X-Aggregate-Version"])
    name = last.headers["X-Aggregate-ID"]
    attempt.parts = [
        msgspec.structs.replace(
            attempt.parts[0], aggregate_id=name, event_ids=["new"], expected=version
        )
    ]
    history.attempts.append(attempt)
    return "had no conflict"


def an_append_fails(history: AppendHistory) -> str:
    recorded_one(history).result = "jetstream"
    return "failed"


PLANTED: list[Callable[[AppendHistory], str]] = [
    *(an_event_is_lost, an_event_is_recorded_twice, an_event_is_changed, another_version_is_told),
    *(a_wrong_version_was_expected, a_repeat_is_refused, a_conflict_has_no_reason),
    an_append_fails,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_what_is_planted_is_found(
    history: AppendHistory, plant: Callable[[AppendHistory], str]
) -> None:
    finding = plant(history)
    assert finding in "\n".join(judge(history.log, history.attempts))
