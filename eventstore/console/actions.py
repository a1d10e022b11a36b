"""What visitors with the right may change; each action is recorded with its actor."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from msgspec import Struct

from eventstore.console.source import ANSWER_SECONDS, Source
from eventstore.delegation import RequestResult, request_projection
from eventstore.delegation.projections import Verb
from eventstore.errors import NoTimer
from eventstore.messages.text import make_log_records_safe
from eventstore.processes import GetProcess, retry_failed

_logger = make_log_records_safe(logging.getLogger(__name__))


class Target(NamedTuple):
    """What something is done to, and by whom: a name, a number, or both; the rest is empty."""

    name: str
    number: int
    actor: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.name, str(self.number or ""))))


Work = Callable[[Source, Target], Awaitable[object]]
"""Does it; what it returns is the `result` in the text that says so."""


class Action(Struct, frozen=True, kw_only=True):
    """Something that can be done to a target.

    `title` is what its button says, `question` what is asked before, `warns` of what follows, and
    `done` says what has happened; they and `page` may have the target's `name` and `number`. What
    `is_final` cannot be undone. `page` is where its visitor comes from, and goes back to.
    """

    title: str
    question: str
    done: str
    page: str
    work: Work
    warns: str = ""
    is_final: bool = False


async def _cancel(source: Source, target: Target) -> None:
    if not await source.timers.cancel(target.name):
        raise NoTimer(f"no timer {target.name} is waiting, or it is due in this moment")


def _requested(verb: Verb) -> Work:
    """A request to the process that keeps a projection's rows."""

    def request(source: Source, target: Target) -> Awaitable[RequestResult]:
        return request_projection(
            *(source.client, source.subjects, verb, target.name),
            position=target.number or None,
            actor=target.actor,
        )

    return request


async def _retry_process(source: Source, target: Target) -> tuple[int, int]:
    """How many events it has reacted to, and how many are left."""
    process, _, key = target.name.partition("/")

    async def failed() -> Iterable[int]:
        query = GetProcess(process=process, key=key, limit=1)
        return (await source.queries.ask(query, timeout=ANSWER_SECONDS)).data.status.failed

    summary = await retry_failed(source.parked, failed, timeout=ANSWER_SECONDS)
    return summary.retried, len(summary.left)


_GONE = "It cannot be brought back."

ACTIONS: Mapping[str, Action] = {
    "parked-retry": Action(
        title="Retry",
        question="Retry parked message {number}?",
        done="Parked message {number} was retried: it is no longer parked.",
        page="/parked",
        work=lambda source, target: source.parked.retry(target.number),
    ),
    "parked-discard": Action(
        title="Discard",
        question="Discard parked message {number}?",
        done="Parked message {number} was discarded.",
        page="/parked",
        work=lambda source, target: source.parked.discard(target.number),
        is_final=True,
        warns=_GONE,
    ),
    "timer-fire": Action(
        title="Fire now",
        question="Make timer {name} due now?",
        done="Timer {name} is due now.",
        page="/timers",
        work=lambda source, target: source.timers.fire(target.name),
    ),
    "timer-cancel": Action(
        title="Cancel timer",
        question="Cancel timer {name}?",
        done="Timer {name} was cancelled.",
        page="/timers",
        work=_cancel,
        is_final=True,
        warns="Its command will not be carried out.",
    ),
    "projection-pause": Action(
        title="Pause",
        question="Pause projection {name} in all services?",
        done="Projection {name} is paused in all services.",
        page="/projections/{name}",
        work=lambda source, target: source.config.change_paused(add=[target.name]),
        warns="Its rows stay as they are until it is resumed.",
    ),
    "projection-resume": Action(
        title="Resume",
        question="Resume projection {name}?",
        done="Projection {name} is resumed.",
        page="/projections/{name}",
        work=lambda source, target: source.config.change_paused(remove=[target.name]),
    ),
    "projection-rebuild": Action(
        title="Rebuild",
        question="Rebuild projection {name} from the log?",
        done="The rebuild of projection {name} was requested; its old rows stay until it is done.",
        page="/projections/{name}",
        work=_requested("REBUILD"),
        warns="Queries are answered from the old rows until the new ones are complete.",
    ),
    "projection-retry": Action(
        title="Retry",
        question="Have projection {name} retry what it has parked?",
        done="Projection {name}: {result.retried} applied, {result.left} stay parked.",
        page="/projections/{name}",
        work=_requested("RETRY"),
    ),
    "projection-discard": Action(
        title="Discard",
        question="Have projection {name} give up the event at position {number}?",
        done="Projection {name} has given up the event at position {number}.",
        page="/projections/{name}",
        work=_requested("DISCARD"),
        is_final=True,
        warns=f"The event stays in the log, and missing in the rows. {_GONE}",
    ),
    "process-retry": Action(
        title="Retry",
        question="Have process {name} react once more to what it has failed at?",
        done="Process {name}: {result[0]} reacted to, {result[1]} left.",
        page="/processes/{name}",
        work=_retry_process,
        warns="Events that it fails at once more stay parked.",
    ),
}
"""All actions, by the names that addresses and records have."""


async def carry_out(source: Source, name: str, target: Target) -> str:
    """Do it, and record who did, before and afterwards; returns what has happened.

    Raises what `ActionLog.recorded` and the action itself raise.
    """
    action = ACTIONS[name]
    _logger.warning("console: %s of %s by %s", name, target, target.actor)
    async with source.actions.recorded(name, str(target), target.actor):
        result = await action.work(source, target)
    return action.done.format(name=target.name, number=target.number, result=result)
