"""An instance: what the records of one process say, apart from the user's state."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

from eventstore.decider.decider import Decider
from eventstore.messages.types import Event
from eventstore.processes.records import Failed, Reacted, Records, Trigger

InstanceStatus = Literal["new", "running", "ended"]

_RECENT = 8  # correlations whose reactions are counted


class Instance(Struct, frozen=True, kw_only=True):
    """The fold of a process's records.

    `reactions` are those since it started; `recent` are how many of them the last correlations led
    to, as far as these are known. `failed` are the events that it could not react to, by the ids
    that their reactions will have. `timers` are those that were set and not cancelled, by name:
    they may have been due. When it ends, only those are left that it has set at that. `about` is
    whose personal data it has.
    """

    status: InstanceStatus = "new"
    reactions: int = 0
    recent: dict[str, int] = {}
    failed: dict[str, Trigger] = {}
    timers: dict[str, datetime] = {}
    about: str = ""

    def after(self, event: Event, process: str, correlation_id: str = "") -> Instance:
        """The instance after one of its records."""
        if isinstance(event, Failed):
            failed = {**self.failed, event.trigger.reaction_id(process): event.trigger}
            return msgspec.structs.replace(self, failed=failed)
        return self._reacted(event, process, correlation_id) if isinstance(event, Reacted) else self

    def _reacted(self, event: Reacted, process: str, correlation_id: str) -> Instance:
        base = Instance(recent=self.recent, failed=self.failed) if event.begins else self
        done = {event.trigger.reaction_id(process), *event.given_up}
        return Instance(
            status="ended" if event.ends else "running",
            reactions=base.reactions + 1,
            recent=_counted(base.recent, correlation_id),
            failed={each: trigger for each, trigger in base.failed.items() if each not in done},
            timers=_timers({} if event.ends else base.timers, event),
            about=event.about or base.about,
        )


def _counted(recent: dict[str, int], correlation_id: str) -> dict[str, int]:
    if not correlation_id:
        return recent
    others = {each: count for each, count in recent.items() if each != correlation_id}
    latest = dict(list(others.items())[-(_RECENT - 1) :])
    return {**latest, correlation_id: recent.get(correlation_id, 0) + 1}


def _timers(timers: dict[str, datetime], event: Reacted) -> dict[str, datetime]:
    kept = {name: at for name, at in timers.items() if name not in event.cancelled}
    return kept | event.timers


def decider_of(process: str, records: Records) -> Decider[Instance]:
    """The decider of a process's records: they are read, traced and verified as any events."""
    decider = Decider(process, initial=Instance)

    def evolve(instance: Instance, event: Event) -> Instance:
        return instance.after(event, process)

    event = records.reacted | records.failed | records.rejected
    evolve.__annotations__ = {"instance": Instance, "event": event, "return": Instance}
    decider.evolves(evolve)
    return decider
