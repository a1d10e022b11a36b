"""Invariants of the domain under any sequence of commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.decider.decider import CommandContext, Decider
from eventstore.errors import Rejected
from eventstore.messages.types import Command, Event
from eventstore.nix import (
    AddFlakeInput,
    Configuration,
    ConfigurationActivated,
    ConfigurationRolledBack,
    CreateFlake,
    FlakeInputAdded,
    FlakeInputRemoved,
    Module,
    ModuleDeleted,
    PackageCached,
    domain,
)
from eventstore.testing import START

CODES = {
    "already_exists",
    "not_found",
    "deleted",
    "invalid",
    "input_exists",
    "input_unknown",
    "not_built",
    "never_activated",
    "generation_unknown",
}
CONTEXT = CommandContext(command_id="c", correlation_id="c", aggregate_id="a", time=START)
WORDS = st.sampled_from(["", " ", "a", "b", "ü🦀"])
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: WORDS,
    str | None: WORDS | st.none(),
    int | None: st.integers(-1, 6) | st.none(),
    list[str]: st.lists(WORDS.filter(str.strip), max_size=3),
    list[str] | None: st.lists(WORDS, max_size=3) | st.none(),
}


def of(cls: type[Command]) -> st.SearchStrategy[Command]:
    fields = msgspec.structs.fields(cls)
    return st.builds(
        cls,
        **{
            field.name: VALUES.get(field.type, st.sampled_from(["switch", "boot", "test"]))
            for field in fields
        },
    )


def commands(decider: Decider[Any]) -> st.SearchStrategy[list[Command]]:
    return st.lists(st.one_of([of(cls) for cls in decider.command_types]), max_size=25)


def run(decider: Decider[Any], sequence: Sequence[Command]) -> tuple[Any, list[Event]]:
    state = decider.initial()
    history: list[Event] = []
    rejected: set[str] = set()
    for command in sequence:
        try:
            events = decider.decide(state, command, CONTEXT)
        except Rejected as rejection:
            rejected.add(rejection.code)
            continue
        state = decider.fold(events, state)
        history.extend(events)
    assert rejected <= CODES
    return state, history


@pytest.mark.parametrize("aggregate", ["flake", "package", "module", "overlay", "config"])
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_the_fold_of_the_stored_events_is_the_state_that_decided(
    aggregate: str, data: st.DataObject
) -> None:
    nix = domain()
    decider = nix.decider(aggregate)
    state, history = run(decider, data.draw(commands(decider)))

    stored = [
        read
        for event in history
        for read in nix.codec.decode_event(
            type(event).__name__, event.__schema_version__, nix.codec.encode(event)
        )
    ]
    assert stored == history
    assert decider.fold(stored) == state
    assert msgspec.json.decode(msgspec.json.encode(state), type=type(state)) == state


@pytest.mark.parametrize("aggregate", ["flake", "package", "module", "overlay", "config"])
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_deciding_is_deterministic_and_changes_nothing(aggregate: str, data: st.DataObject) -> None:
    decider = domain().decider(aggregate)
    sequence = data.draw(commands(decider))

    assert run(decider, sequence) == run(decider, sequence)
    assert decider.initial() == decider.fold(())


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_the_inputs_of_a_flake_are_those_added_and_not_removed(data: st.DataObject) -> None:
    decider = domain().decider("flake")
    start = CreateFlake(path="/f", description="")
    state, history = run(decider, [start, *data.draw(commands(decider))])

    present: set[str] = set()
    for event in history:
        if isinstance(event, FlakeInputAdded):
            assert event.name not in present
            present.add(event.name)
        if isinstance(event, FlakeInputRemoved):
            assert event.name in present
            present.remove(event.name)
    assert set(state.inputs) == present
    for name, url in state.inputs.items():
        assert decider.decide(state, AddFlakeInput(name=name, url=url), CONTEXT) == ()


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_generations_increase_and_are_never_reused(data: st.DataObject) -> None:
    decider = domain().decider("config")
    state, history = run(decider, data.draw(commands(decider)))

    current = last = 0
    for event in history:
        if isinstance(event, ConfigurationActivated):
            assert event.generation == last + 1
            current = last = event.generation
        if isinstance(event, ConfigurationRolledBack):
            assert event.from_generation == current
            assert 1 <= event.to_generation < current
            current = event.to_generation
    assert isinstance(state, Configuration)
    assert (state.current_generation, state.last_generation) == (current, last)


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_nothing_follows_a_deletion(data: st.DataObject) -> None:
    decider = domain().decider("module")
    state, history = run(decider, data.draw(commands(decider)))

    assert not any(isinstance(event, ModuleDeleted) for event in history[:-1])
    assert isinstance(state, Module)
    assert not (state.exists and state.deleted)


@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_package_is_built_before_it_is_cached(data: st.DataObject) -> None:
    decider = domain().decider("package")
    _, history = run(decider, data.draw(commands(decider)))

    assert not history or not isinstance(history[0], PackageCached)
