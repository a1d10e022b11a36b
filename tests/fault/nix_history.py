"""A long random history of the Nix domain, decided by its deciders and appended to a real log."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from eventstore import NO_STREAM, Append, EventStore, nix
from eventstore.decider.decider import CommandContext
from eventstore.decider.domain import Domain
from eventstore.errors import Rejected
from eventstore.messages.types import Command, Event
from tests.unit.projections.memory import ROOT, START

CHUNK = 400

Key = tuple[str, str]
Make = Callable[[random.Random], Command]


def _names(chance: random.Random) -> list[str]:
    return chance.sample("abcdef", chance.randrange(4))


COMMANDS: dict[str, list[Make]] = {
    "flake": [
        lambda c: nix.CreateFlake(path=f"./{c.randrange(9)}", description=""),
        lambda c: nix.AddFlakeInput(name=c.choice("abcdef"), url=f"path:/{c.choice('xyz')}"),
        lambda c: nix.AddFlakeInput(name=c.choice("abcdef"), url=f"path:/{c.choice('xyz')}"),
        lambda c: nix.RemoveFlakeInput(name=c.choice("abcdef")),
        lambda c: nix.UpdateFlake(inputs=None),
    ],
    "package": [
        lambda c: nix.BuildPackage(flake_ref=f"path:/{c.randrange(9)}", attribute="default"),
        lambda c: nix.CachePackage(cache_url=f"https://{c.choice('xyz')}.example"),
    ],
    "module": [
        lambda c: nix.CreateModule(name=c.choice("abc"), content=""),
        lambda c: nix.UpdateModule(content=str(c.randrange(9))),
        lambda c: nix.UpdateModule(content=str(c.randrange(9))),
        lambda c: nix.DeleteModule() if c.random() < 0.1 else nix.UpdateModule(content="z"),
    ],
    "overlay": [
        lambda c: nix.CreateOverlay(name=c.choice("abc"), content=""),
        lambda c: nix.UpdateOverlay(content=str(c.randrange(9))),
        lambda c: nix.DeleteOverlay() if c.random() < 0.1 else nix.UpdateOverlay(content="z"),
    ],
    "config": [
        lambda c: nix.CreateConfiguration(name=c.choice("abc"), modules=_names(c), overlays=[]),
        lambda c: nix.UpdateConfiguration(modules=_names(c), overlays=_names(c)),
        lambda _: nix.ActivateConfiguration(activation="switch"),
        lambda _: nix.RollbackConfiguration(generation=None),
    ],
}


def decided(domain: Domain, chance: random.Random, aggregates: int) -> Iterator[tuple[Key, Event]]:
    """Endless events, of aggregates of every kind."""
    states: dict[Key, Any] = {}
    while True:
        kind = chance.choice(list(COMMANDS))
        key = kind, f"{kind}-{chance.randrange(aggregates)}"
        decider = domain.decider(kind)
        state = states.setdefault(key, decider.initial())
        command = chance.choice(COMMANDS[kind])(chance)
        context = CommandContext(
            command_id=ROOT, correlation_id=ROOT, aggregate_id=key[1], time=START
        )
        try:
            events = decider.decide(state, command, context)
        except Rejected:
            continue
        states[key] = decider.fold(events, state)
        for event in events:
            yield key, event


async def append_history(
    store: EventStore, domain: Domain, count: int, chance: random.Random
) -> None:
    """Append `count` random events, in batches of many aggregates."""
    events = decided(domain, chance, aggregates=max(10, count // 100))
    heads: dict[Key, Any] = {}
    for begin in range(0, count, CHUNK):
        chunk: dict[Key, list[Event]] = {}
        for _ in range(min(CHUNK, count - begin)):
            key, event = next(events)
            chunk.setdefault(key, []).append(event)
        appended = await store.append_all(
            *(
                Append(
                    aggregate=key[0],
                    aggregate_id=key[1],
                    events=several,
                    expected=heads.get(key, NO_STREAM),
                )
                for key, several in chunk.items()
            )
        )
        heads |= {(each.aggregate, each.aggregate_id): each.head for each in appended}
