"""The declaration of a process: its state, its key and its functions, without a connection.

    fulfilment = Process("fulfilment", initial=Fulfilment, key="order")

    @fulfilment.starts
    def placed(state: Fulfilment, event: OrderPlaced) -> Send[ReserveStock]: ...

    @fulfilment.reacts
    def refused(state: Fulfilment, rejection: Rejection[ConfirmOrder]) -> Send[ReleaseStock]: ...

    @fulfilment.evolves
    def reserved(state: Fulfilment, event: StockReserved) -> Fulfilment: ...

The type annotations determine which function is for which event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

from eventstore.decider.decider import Decider
from eventstore.decider.function import check_not_async, is_state, state_types
from eventstore.errors import DeciderError
from eventstore.messages.events import RecordedEvent
from eventstore.messages.subjects import check_aggregate_id, check_name
from eventstore.messages.types import Command, Event
from eventstore.processes.function import (
    ProcessFunction,
    TriggerType,
    described,
    failing_as,
    trigger_of,
)
from eventstore.processes.instance import Instance, decider_of
from eventstore.processes.reactions import Actions, ProcessContext, actions_of
from eventstore.processes.records import Records

S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])

Role = Literal["starts", "continues", "ends"]
"""What an event does to a process."""

Key = str | Callable[[Any, RecordedEvent], str | None]
"""The field that names an event's process, or a function that does; None for no process."""

_MAX_REACTIONS = 1_000


class Process(Generic[S]):
    """A process manager: follows events of one key, has a state, and sends commands.

    `name` is its kind of aggregate, whose events record its reactions, and its durable position in
    the event stream. `initial` makes the state of a process that has not started. `key` tells which
    events belong to one process: an event of the aggregate of this name belongs to the process with
    its aggregate's id, another one to that which its field of this name has; or it is a function of
    the event and its record that returns the key, or None for an event that is for no process.

    What it does when an event arrives is recorded before its commands are sent, and recorded once:
    whoever dies, each event leads to one reaction, and each command is carried out once. Events
    arrive in the order of the log. One that does not start a process passes by unless it runs; one
    that starts it, starts it again when it has ended. A process that fails at an event takes no
    other until that one is retried or discarded; others go on.

    The functions must be pure: no I/O, no clock, no random. Raises `DeciderError` for one whose
    annotations do not name its event, that is asynchronous, or is a second one for an event.

    With `snapshot_every`, a snapshot of the state is stored after so many reactions; raise
    `state_version` whenever the same events lead to another state than before. A process that
    reacts more than `max_reactions` times within one correlation loops by its own commands, and
    fails. `start` is where a new name begins, as a `Subscriber` does: with "all" events, or "new".
    """

    def __init__(
        self,
        name: str,
        *,
        initial: Callable[[], S],
        key: Key,
        snapshot_every: int | None = None,
        state_version: int = 1,
        max_reactions: int = _MAX_REACTIONS,
        start: Literal["all", "new"] = "all",
    ) -> None:
        self.name = check_name("process", name)
        self._where = f"process {name}"
        if not callable(initial):
            raise DeciderError(
                f"{self._where}: initial is a {type(initial).__name__}; give what makes the state, "
                "such as its class"
            )
        if not (isinstance(key, str) or callable(key)):
            raise DeciderError(
                f"{self._where}: key is a {type(key).__name__}; give the name of a field, or a "
                "function of an event and its record"
            )
        if type(max_reactions) is not int or max_reactions < 1:
            raise DeciderError(
                f"{self._where}: max_reactions is {max_reactions!r}, and not 1 or more"
            )
        if start not in ("all", "new"):
            raise DeciderError(f"{self._where}: start is {start!r}, neither 'all' nor 'new'")
        check_not_async(initial)
        if not isinstance(key, str):
            check_not_async(key)
        self.initial = initial
        self.key = key
        self.max_reactions = max_reactions
        self.start = start
        self._folding = Decider(
            self.name, initial=initial, snapshot_every=snapshot_every, state_version=state_version
        )
        self._reacts: dict[TriggerType, tuple[Role, ProcessFunction]] = {}
        self._evolves: dict[TriggerType, ProcessFunction] = {}
        self._states: tuple[Any, ...] = ()
        self._state_types: tuple[type, ...] = ()

    @property
    def snapshot_every(self) -> int | None:
        """After how many reactions a snapshot is taken."""
        return self._folding.snapshot_every

    @property
    def state_version(self) -> int:
        """The version of what events lead to."""
        return self._folding.state_version

    def starts(self, function: F) -> F:
        """Register what it does at an event that starts it, named by the second parameter.

        It is called with the state, which includes the event, and the event, and a `ProcessContext`
        if it takes a third parameter; it returns a `Reaction`. If the process runs already, the
        event continues it.
        """
        return self._add(function, "starts")

    def reacts(self, function: F) -> F:
        """Register what it does at an event, or a `Rejection`, while it runs; as `starts`."""
        return self._add(function, "continues")

    def ends(self, function: F) -> F:
        """Register what it does at an event that ends it, at last; as `starts`."""
        return self._add(function, "ends")

    def evolves(self, function: F) -> F:
        """Register the function that applies an event, or a `Rejection`, to the state.

        It takes the same parameters as `starts`, with the state before the event, and returns the
        state after it.
        """
        known = ProcessFunction(function, returns_state=True)
        self._states += known.states
        self._state_types = ()
        for trigger in known.triggers:
            self._claim(trigger, self._evolves, known)
            self._evolves[trigger] = known
        return function

    def _add(self, function: F, role: Role) -> F:
        known = ProcessFunction(function)
        for trigger in known.triggers:
            if role == "starts" and not isinstance(trigger, type):
                raise DeciderError(f"{self._where}: {known.name} cannot start it at a rejection")
            self._claim(trigger, self._reacts, known)
            self._reacts[trigger] = (role, known)
        return function

    def _claim(
        self, trigger: TriggerType, known: dict[Any, Any], function: ProcessFunction
    ) -> None:
        if trigger in known:
            raise DeciderError(
                f"{self._where}: {described(trigger)} already has a function; {function.name} is a "
                "second"
            )

    @property
    def event_types(self) -> list[type[Event]]:
        """The events that have a function."""
        every = [*self._reacts, *self._evolves]
        return list(dict.fromkeys(each for each in every if isinstance(each, type)))

    @property
    def command_types(self) -> list[type[Command]]:
        """The commands that its functions' annotations name, those it may be rejected included."""
        sent = [each for _, function in self._reacts.values() for each in function.commands]
        return list(dict.fromkeys([*sent, *self.rejected_types]))

    @property
    def rejected_types(self) -> list[type[Command]]:
        """The commands whose rejections have a function."""
        every = [*self._reacts, *self._evolves]
        return list(dict.fromkeys(each[1] for each in every if isinstance(each, tuple)))

    @cached_property
    def records(self) -> Records:
        """The classes of what it records; no function can be added from then on."""
        return Records(self.name, self.event_types)

    @cached_property
    def decider(self) -> Decider[Instance]:
        """The decider of its records, which makes it a kind of aggregate of its domain."""
        return decider_of(self.name, self.records)

    def key_of(self, event: Event, recorded: RecordedEvent) -> str | None:
        """The key of the process that an event is for.

        Raises `InvalidId` for a key that cannot be the id of an aggregate, and of the key's
        function what `react` raises of others.
        """
        if not isinstance(self.key, str):
            with failing_as("key", event):
                found = self.key(event, recorded)
        elif type(event).__aggregate__ == self.key:
            found = recorded.aggregate_id
        else:
            found = getattr(event, self.key)
        return None if found is None else check_aggregate_id(found)

    def role_of(self, data: Any) -> Role:
        """What an event, or a rejection, does to a process."""
        known = self._reacts.get(trigger_of(data))
        return "continues" if known is None else known[0]

    def evolve(self, state: S, data: Any, context: ProcessContext) -> S:
        """The state after an event, or a rejection; the same one if no function is for it.

        Raises `DeciderError` if the function does not return a state, and what `react` raises.
        """
        function = self._evolves.get(trigger_of(data))
        if function is None:
            return state
        with failing_as(function.name, data):
            evolved: S = function(state, data, context)
        if not self._state_types:
            self._state_types = state_types(self._states, type(self.initial()))
        if not is_state(evolved, self._state_types):
            raise DeciderError(
                f"{function.name} returned {type(evolved).__name__} for "
                f"{described(trigger_of(data))}; it must return the state after it"
            )
        return evolved

    def react(self, state: S, data: Any, context: ProcessContext) -> Actions:
        """What it does at an event, or a rejection, in a state that includes it.

        Raises `DeciderError` if the function does not return a `Reaction`, `HandlerFailed` if it
        raised an error of this library, and any other error of the function.
        """
        known = self._reacts.get(trigger_of(data))
        if known is None:
            return Actions()
        role, function = known
        with failing_as(function.name, data):  # a generator runs when it is iterated over
            reaction = function(state, data, context)
            several = list(reaction) if isinstance(reaction, Iterator) else reaction
        actions = actions_of(several, context.key, function.name)
        return Actions(actions.sent, actions.cancelled, actions.ends or role == "ends")

    def check(self) -> None:
        """Raise `DeciderError` for an incomplete process: no start, or an event without its key."""
        self._folding.check()
        if all(role != "starts" for role, _ in self._reacts.values()):
            raise DeciderError(
                f"{self._where}: no event starts it; register a function with @starts"
            )
        if isinstance(self.key, str):
            for event in self.event_types:
                if self.key not in (event.__aggregate__, *event.__struct_fields__):
                    raise DeciderError(
                        f"{self._where}: {event.__name__} has no field {self.key}, and is no event "
                        f"of an aggregate {self.key}; give a function as key"
                    )
