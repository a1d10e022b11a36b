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

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from eventstore.decider.decider import Decider
from eventstore.decider.function import DeciderFunction, check_not_async
from eventstore.errors import DeciderError, EventStoreError, HandlerFailed
from eventstore.messages.events import RecordedEvent
from eventstore.messages.functions import is_message, leaves
from eventstore.messages.subjects import check_aggregate_id, check_name
from eventstore.messages.types import Command, Event
from eventstore.messages.undecodable import STOPS, text_of
from eventstore.processes.instance import Instance, decider_of
from eventstore.processes.reactions import (
    Actions,
    ProcessContext,
    Rejection,
    actions_of,
)
from eventstore.processes.records import Records

S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])

Role = Literal["starts", "continues", "ends"]
"""What an event does to a process."""

Key = str | Callable[[Any, RecordedEvent], str | None]
"""The field that names an event's process, or a function that does; None for no process."""

TriggerType = type[Any] | tuple[Any, type[Any]]
"""What a function is registered for: an event's type, or `Rejection` and a command's type."""

_MAX_REACTIONS = 1_000


class _Function:
    """A function of the user, called with the state, the event, and its context if it takes one."""

    def __init__(self, function: Callable[..., Any], *, returns_state: bool = False) -> None:
        signature = DeciderFunction(function, counts=(2, 3))
        signature.check_third(ProcessContext)
        if returns_state:
            signature.check_returns_state()
        self.name = signature.name
        self.triggers = _triggers_of(signature)
        self.commands = [each for each in leaves(signature.returns) if is_message(each, Command)]
        self._function = function
        self._has_context = signature.count == 3

    def __call__(self, state: Any, data: Any, context: ProcessContext) -> Any:
        """Call it; raises `HandlerFailed` for an error of this library, and others as they are."""
        try:
            if self._has_context:
                return self._function(state, data, context)
            return self._function(state, data)
        except EventStoreError as error:
            raise self._failed(data, error) from error
        except (Exception, *STOPS):
            raise
        except BaseException as error:  # which would end the program
            raise self._failed(data, error) from error

    def _failed(self, data: Any, error: BaseException) -> HandlerFailed:
        kind = type(error).__name__
        return HandlerFailed(
            f"{self.name} failed on {type(data).__name__}: {kind}: {text_of(error)}"
        )


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
    that starts it, starts it anew when it has ended. A process that fails at an event takes no
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
        self.initial = initial
        self.key = key
        self.max_reactions = max_reactions
        self.start = start
        self._folding = Decider(
            self.name, initial=initial, snapshot_every=snapshot_every, state_version=state_version
        )
        self._reacts: dict[TriggerType, tuple[Role, _Function]] = {}
        self._evolves: dict[TriggerType, _Function] = {}

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
        known = _Function(function, returns_state=True)
        for trigger in known.triggers:
            self._claim(trigger, self._evolves, known)
            self._evolves[trigger] = known
        return function

    def _add(self, function: F, role: Role) -> F:
        known = _Function(function)
        for trigger in known.triggers:
            if role == "starts" and not isinstance(trigger, type):
                raise DeciderError(f"{self._where}: {known.name} cannot start it at a rejection")
            self._claim(trigger, self._reacts, known)
            self._reacts[trigger] = (role, known)
        return function

    def _claim(self, trigger: TriggerType, known: dict[Any, Any], function: _Function) -> None:
        if trigger in known:
            raise DeciderError(
                f"{self._where}: {_name_of(trigger)} already has a function; {function.name} is a "
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

        Raises `InvalidId` for a key that cannot be the id of an aggregate, and what the key's
        function raises.
        """
        if not isinstance(self.key, str):
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
        """The state after an event, or a rejection; the same one if no function is for it."""
        function = self._evolves.get(trigger_of(data))
        if function is None:
            return state
        evolved: S = function(state, data, context)
        if hasattr(type(evolved), "__await__"):
            raise DeciderError(f"{function.name} returned what must be awaited")
        return evolved

    def react(self, state: S, data: Any, context: ProcessContext) -> Actions:
        """What it does at an event, or a rejection, in a state that includes it.

        Raises `DeciderError` if the function does not return a `Reaction`.
        """
        known = self._reacts.get(trigger_of(data))
        if known is None:
            return Actions()
        role, function = known
        actions = actions_of(function(state, data, context), context.key, function.name)
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


def trigger_of(data: Any) -> TriggerType:
    """What the function for an event, or a rejection, is registered for."""
    if isinstance(data, Rejection):
        return Rejection, type(data.command)
    return type(data)


def _triggers_of(signature: DeciderFunction) -> list[TriggerType]:
    """The events and rejections that the second parameter is annotated with."""
    annotation = signature.message
    members = [annotation] if get_origin(annotation) is Rejection else get_args(annotation)
    found: list[TriggerType] = []
    for each in members or [annotation]:
        if get_origin(each) is Rejection:
            found += [(Rejection, leaf) for leaf in leaves(each) if is_message(leaf, Command)]
        elif is_message(each, Event):
            found.append(each)
    if not found or len(found) < len(members):
        raise DeciderError(
            f"{signature.name}: its second parameter must be annotated with the Event class it is "
            "for, one with a subject, or with the Rejection of a command"
        )
    return found


def _name_of(trigger: Any) -> str:
    return (
        f"the rejection of {trigger[1].__name__}"
        if isinstance(trigger, tuple)
        else str(trigger.__name__)
    )
