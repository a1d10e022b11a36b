"""A log of the Nix domain with every type of event, of many aggregates in turns."""

from __future__ import annotations

import random
from collections.abc import Iterator

from eventstore.messages.types import Event
from eventstore.nix import (
    ConfigurationActivated,
    ConfigurationCreated,
    ConfigurationRolledBack,
    ConfigurationUpdated,
    FlakeCreated,
    FlakeInputAdded,
    FlakeInputRemoved,
    FlakeUpdated,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    OverlayCreated,
    OverlayDeleted,
    OverlayUpdated,
    PackageBuilt,
    PackageCached,
    PackageMarkedStale,
)
from tests.unit.projections.memory import MemoryLog


def add_history(log: MemoryLog, aggregates: int) -> None:
    """Aggregates of each kind, whose events alternate; deterministic."""
    chance = random.Random(7)  # noqa: S311  # no secret
    histories = [
        (f"{kind}{number}", iter(history()))
        for number in range(aggregates)
        for kind, history in _HISTORIES.items()
    ]
    while histories:
        place = chance.randrange(len(histories))
        aggregate_id, history = histories[place]
        event = next(history, None)
        if event is None:
            del histories[place]
        else:
            log.add(aggregate_id, event, actor=aggregate_id)


def _flake() -> Iterator[Event]:
    yield FlakeCreated(path="./f", description="")
    for name in ("nixpkgs", "utils", "home"):
        yield FlakeInputAdded(name=name, url=f"github:some/{name}")
    yield FlakeUpdated(inputs=["nixpkgs", "home"])
    yield FlakeInputRemoved(name="nixpkgs")
    yield FlakeInputAdded(name="nixpkgs", url="github:other/nixpkgs")
    yield FlakeInputRemoved(name="utils")


def _package() -> Iterator[Event]:
    for output in ("/1", "/2"):
        yield PackageBuilt(flake_ref="f", attribute="hello", output_path=output)
        yield PackageCached(cache_url="https://a", output_path=output)
    yield PackageMarkedStale(reason="an input changed", inputs=["nixpkgs"])


def _configuration() -> Iterator[Event]:
    yield ConfigurationCreated(name="web", modules=["a"], overlays=[])
    yield ConfigurationActivated(generation=1, activation="boot")
    yield ConfigurationUpdated(modules=["b"], overlays=["o"])
    yield ConfigurationActivated(generation=2, activation="switch")
    yield ConfigurationRolledBack(from_generation=2, to_generation=1)


def _module() -> Iterator[Event]:
    yield ModuleCreated(name="m", content="1")
    yield ModuleUpdated(content="2")
    yield ModuleDeleted()


def _overlay() -> Iterator[Event]:
    yield OverlayCreated(name="o", content="1")
    yield OverlayUpdated(content="2")
    yield OverlayDeleted()


_HISTORIES = {
    "f": _flake,
    "p": _package,
    "c": _configuration,
    "m": _module,
    "o": _overlay,
}
