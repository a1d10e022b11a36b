"""A process's function: its events, its commands and its result, according to its annotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_origin

from eventstore.decider.function import DeciderFunction
from eventstore.errors import DeciderError, EventStoreError, HandlerFailed
from eventstore.messages.functions import is_message, leaves
from eventstore.messages.types import Command, Event
from eventstore.messages.undecodable import STOPS, text_of
from eventstore.processes.reactions import ProcessContext, Rejection

TriggerType = type[Any] | tuple[Any, type[Any]]
"""What a function is registered for: an event's type, or `Rejection` and a command's type."""


class ProcessFunction:
    """A function of a process, as it was declared.

    It takes a state, an event or a `Rejection`, and a `ProcessContext` if it wants one. Raises
    `DeciderError` for annotations that do not say which event it is for, or that it returns
    events, and for one that is asynchronous.
    """

    def __init__(self, function: Callable[..., Any], *, returns_state: bool = False) -> None:
        signature = DeciderFunction(function, counts=(2, 3))
        signature.check_third(ProcessContext)
        if returns_state:
            signature.check_returns_state()
        self.name = signature.name
        self.triggers = _triggers_of(signature)
        _check_sends_no_event(signature)
        self.commands = [each for each in leaves(signature.returns) if is_message(each, Command)]
        self.states = (signature.state, signature.returns)
        self._function = function
        self._has_context = signature.count == 3

    def __call__(self, state: Any, data: Any, context: ProcessContext) -> Any:
        """Call it; raises what it raises."""
        if self._has_context:
            return self._function(state, data, context)
        return self._function(state, data)


def trigger_of(data: Any) -> TriggerType:
    """What the function for an event, or a rejection, is registered for."""
    if isinstance(data, Rejection):
        return Rejection, type(data.command)
    return type(data)


def described(trigger: TriggerType) -> str:
    """An event's type, or the rejection of a command's, for the text of an error."""
    if isinstance(trigger, tuple):
        return f"the rejection of {trigger[1].__name__}"
    return trigger.__name__


@contextmanager
def failing_as(name: str, data: Any) -> Iterator[None]:
    """Have errors of this library, and those that would end the program, raised as `HandlerFailed`.

    What a user's function raises must not look like an error of what calls it.
    """
    try:
        yield
    except EventStoreError as error:
        raise failure_of(name, data, error) from error
    except (Exception, *STOPS):
        raise
    except BaseException as error:
        raise failure_of(name, data, error) from error


def failure_of(name: str, data: Any, error: BaseException) -> HandlerFailed:
    """The failure of a function at an event, for what it has raised."""
    on = described(trigger_of(data))
    return HandlerFailed(f"{name} failed on {on}: {type(error).__name__}: {text_of(error)}")


def _check_sends_no_event(signature: DeciderFunction) -> None:
    for each in leaves(signature.returns):
        if is_message(each, Event):
            raise DeciderError(
                f"{signature.name} returns the event {each.__name__}; a process returns commands, "
                "and a decider its events"
            )


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
