"""What visitors with the right may change; each action is recorded with its actor."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from eventstore.console.source import Source
from eventstore.delegation import request_projection
from eventstore.errors import NoTimer
from eventstore.messages.text import make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))

Work = Callable[[Source, str, int, str], Awaitable[str]]
"""Does it: to what has a name or a number, on behalf of an actor; returns what has happened."""


class Action(Struct, frozen=True, kw_only=True):
    """Something that can be done to a `target`: a `name` (of a projection or timer) or a number.

    `title` is what its button says, `question` what is asked before, with the target, and `warns`
    of what follows; what `is_final` cannot be undone. `page` is where its visitor comes from, and
    goes back to.
    """

    title: str
    question: str
    page: str
    work: Work
    warns: str = ""
    is_final: bool = False


async def _retry_parked(source: Source, _: str, number: int, actor: str) -> str:
    await source.parked.retry(number)
    return f"Parked message {number} was retried: it is no longer parked."


async def _discard_parked(source: Source, _: str, number: int, actor: str) -> str:
    await source.parked.discard(number)
    return f"Parked message {number} was discarded."


async def _fire(source: Source, name: str, _: int, actor: str) -> str:
    await source.timers.fire(name)
    return f"Timer {name} is due now."


async def _cancel(source: Source, name: str, _: int, actor: str) -> str:
    if not await source.timers.cancel(name):
        raise NoTimer(f"no timer {name} is waiting, or it is due in this moment")
    return f"Timer {name} was cancelled."


async def _pause(source: Source, name: str, _: int, actor: str) -> str:
    await source.config.change_paused(add=[name])
    return f"Projection {name} is paused in all services."


async def _resume(source: Source, name: str, _: int, actor: str) -> str:
    await source.config.change_paused(remove=[name])
    return f"Projection {name} is resumed."


async def _rebuild(source: Source, name: str, _: int, actor: str) -> str:
    await request_projection(source.client, source.subjects, "REBUILD", name, actor=actor)
    return f"The rebuild of projection {name} was requested; its old rows stay until it is done."


async def _retry_event(source: Source, name: str, number: int, actor: str) -> str:
    found = await request_projection(
        *(source.client, source.subjects, "RETRY", name), position=number or None, actor=actor
    )
    return f"Projection {name}: {found.retried} applied, {found.left} stay parked."


async def _discard_event(source: Source, name: str, number: int, actor: str) -> str:
    await request_projection(
        *(source.client, source.subjects, "DISCARD", name), position=number, actor=actor
    )
    return f"Projection {name} has given up the event at position {number}."


_GONE = "It cannot be brought back."

ACTIONS: Mapping[str, Action] = {
    "parked-retry": Action(
        title="Retry",
        question="Retry parked message {number}?",
        page="/parked",
        work=_retry_parked,
    ),
    "parked-discard": Action(
        title="Discard",
        question="Discard parked message {number}?",
        page="/parked",
        work=_discard_parked,
        is_final=True,
        warns=_GONE,
    ),
    "timer-fire": Action(
        title="Fire now",
        question="Make timer {name} due now?",
        page="/timers",
        work=_fire,
    ),
    "timer-cancel": Action(
        title="Cancel timer",
        question="Cancel timer {name}?",
        page="/timers",
        work=_cancel,
        is_final=True,
        warns="Its command will not be carried out.",
    ),
    "projection-pause": Action(
        title="Pause",
        question="Pause projection {name} in all services?",
        page="/projections/{name}",
        work=_pause,
        warns="Its rows stay as they are until it is resumed.",
    ),
    "projection-resume": Action(
        title="Resume",
        question="Resume projection {name}?",
        page="/projections/{name}",
        work=_resume,
    ),
    "projection-rebuild": Action(
        title="Rebuild",
        question="Rebuild projection {name} from the log?",
        page="/projections/{name}",
        work=_rebuild,
        warns="Queries are answered from the old rows until the new ones are complete.",
    ),
    "event-retry": Action(
        title="Retry",
        question="Have projection {name} retry what it has parked?",
        page="/projections/{name}",
        work=_retry_event,
    ),
    "event-discard": Action(
        title="Discard",
        question="Have projection {name} give up the event at position {number}?",
        page="/projections/{name}",
        work=_discard_event,
        is_final=True,
        warns=f"The event stays in the log, and missing in the rows. {_GONE}",
    ),
}
"""All actions, by the names that addresses have."""


async def carry_out(source: Source, action: str, name: str, number: int, actor: str) -> str:
    """Do it, and record who did; returns what has happened.

    Raises what the action raises, which is recorded, too.
    """
    target = " ".join(filter(None, (name, str(number) if number else "")))
    _logger.warning("console: %s begins %s of %s", actor, action, target)
    try:
        done = await ACTIONS[action].work(source, name, number, actor)
    except Exception as error:
        _logger.warning("console: %s of %s by %s failed: %s", action, target, actor, error)
        raise
    _logger.warning("console: %s of %s by %s is done", action, target, actor)
    return done
