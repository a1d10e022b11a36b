"""The guards of a process: it does not loop, and does not overtake an event that it failed at."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing

from eventstore.errors import ProcessLoop, ProcessWaits
from eventstore.messages.events import RecordedEvent
from eventstore.messages.headers import POSITION
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from eventstore.processes.instance import Instance
from eventstore.processes.records import RecordedReaction, Trigger

_MAX_REMEMBERED = 10_000


class LoopGuard:
    """Refuses reactions after too many of a process within one correlation.

    A loop through ever new processes is found as well, as far as their commands were sent here.
    """

    def __init__(self, process: str, max_reactions: int) -> None:
        self._process = process
        self._max_reactions = max_reactions
        self._depths: OrderedDict[str, int] = OrderedDict()  # of the commands that were sent

    def check(self, instance: Instance, recorded: RecordedEvent) -> None:
        """Raise `ProcessLoop` if there were too many before this event."""
        count = instance.recent.get(recorded.correlation_id, 0)
        if max(count, self._depth(recorded)) >= self._max_reactions:
            raise ProcessLoop(
                f"process {self._process} has reacted {self._max_reactions} times within the "
                f"correlation {recorded.correlation_id}, and seems to loop by its own commands; "
                "if it does not, raise its max_reactions, and retry this event"
            )

    def note(self, recorded: RecordedEvent, reaction: RecordedReaction) -> None:
        """Remember of how many reactions the commands of this one are a consequence."""
        depth = self._depth(recorded) + 1
        for each in reaction.data.commands:
            self._depths[each.id] = depth
        while len(self._depths) > _MAX_REMEMBERED:
            self._depths.popitem(last=False)

    def _depth(self, recorded: RecordedEvent) -> int:
        return self._depths.get(recorded.causation_id, 0)


class FailureGuard:
    """Has a process that has failed at an event wait until that is retried or discarded."""

    def __init__(self, process: str, parked: ParkedMessages) -> None:
        self._process = process
        self._parked = parked

    async def check(self, instance: Instance, trigger: Trigger) -> list[str]:
        """The failures that were given up, by the ids of their reactions.

        Raises `ProcessWaits` if an earlier event is still parked, and `ClientError`.
        """
        own = trigger.reaction_id(self._process)
        given_up = []
        for reaction_id, failed in instance.failed.items():
            if reaction_id == own or failed.position > trigger.position:
                continue
            if await self._is_parked(failed):
                raise ProcessWaits(
                    f"process {self._process} has failed at {failed.type} {failed.id} of "
                    f"{failed.aggregate} {failed.aggregate_id}; retry or discard that first"
                )
            given_up.append(reaction_id)
        return given_up

    async def _is_parked(self, trigger: Trigger) -> bool:
        reading = self._parked.read(
            kind="event", aggregate=trigger.aggregate, aggregate_id=trigger.aggregate_id
        )
        async with aclosing(reading) as parked:
            async for each in parked:
                if isinstance(each, ParkedMessage) and self._is_of(each, trigger):
                    return True
        return False

    def _is_of(self, parked: ParkedMessage, trigger: Trigger) -> bool:
        record = parked.record
        is_own = record.subscriber == self._process
        return is_own and record.headers.get(POSITION) == str(trigger.position)
