"""Marks the packages that were built from a flake as stale when its inputs change."""

from __future__ import annotations

from msgspec import Struct

from eventstore import Event, Process, ProcessContext, RecordedEvent, Send
from eventstore.nix import (
    FlakeInputAdded,
    FlakeInputRemoved,
    FlakeUpdated,
    MarkPackageStale,
    PackageBuilt,
)

__all__ = ["Builds", "stale_builds"]

InputsChanged = FlakeInputAdded | FlakeInputRemoved | FlakeUpdated


class Builds(Struct, frozen=True):
    """The builds from a flake since its inputs changed: the package's version, by its id."""

    versions: dict[str, int] = {}


def _flake(event: Event, recorded: RecordedEvent) -> str | None:
    return event.flake if isinstance(event, PackageBuilt) else recorded.aggregate_id


stale_builds = Process(
    "stale-builds",
    initial=Builds,
    key=_flake,
    snapshot_every=100,
    max_reactions=1_000_000,  # it reacts to none of its commands' events, so it cannot loop
)
"""The process of each flake: begins with a build, ends when the inputs change.

A build that names no flake is for no process, and never becomes stale by itself. A package that is
rebuilt before its command arrives, from this flake or another one, is not marked."""


@stale_builds.starts
def built(builds: Builds, event: PackageBuilt) -> None:
    """Nothing follows from a build alone."""


@stale_builds.evolves
def remembered(builds: Builds, event: PackageBuilt, context: ProcessContext) -> Builds:
    """A rebuild takes the place of the build before."""
    return Builds({**builds.versions, context.aggregate_id: context.version})


@stale_builds.ends
def inputs_changed(
    builds: Builds, event: InputsChanged, context: ProcessContext
) -> list[Send[MarkPackageStale]]:
    """Every build so far is stale."""
    inputs, change = _change(event)
    reason = f"flake {context.key}: {', '.join(inputs)} {change}"
    return [
        Send(MarkPackageStale(reason=reason, inputs=inputs, version=version), package_id)
        for package_id, version in sorted(builds.versions.items())
    ]


def _change(event: InputsChanged) -> tuple[list[str], str]:
    match event:
        case FlakeInputAdded(name=name):
            return [name], "added"
        case FlakeInputRemoved(name=name):
            return [name], "removed"
        case FlakeUpdated(inputs=inputs):
            return inputs, "locked anew"
