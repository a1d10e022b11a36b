"""Packages: built from a flake's attribute and pushed to binary caches."""

from __future__ import annotations

import msgspec
from msgspec import Struct, structs

from eventstore import Command, Decider, Event, Rejected
from eventstore.nix.rules import require_text

DEFAULT_OUTPUT_PATH = "result"
"""The output path of a build whose command names none: the link that `nix build` creates."""


class BuildPackage(Command, subject="package.build", creates=True):
    """Build an attribute of a flake; a built package is rebuilt."""

    flake_ref: str
    attribute: str
    output_path: str | None = None


class CachePackage(Command, subject="package.cache"):
    """Push the last build to a binary cache."""

    cache_url: str


class MarkPackageStale(Command, subject="package.mark_stale"):
    """Mark a build as stale: a rebuild would give another result, as after a changed input.

    `inputs` are the flake's inputs that changed. `build` is the number of the build, from 1; if
    absent, it is the last one.
    """

    reason: str
    inputs: list[str] = msgspec.field(default_factory=list)
    build: int | None = None


class PackageBuilt(Event, subject="package.built"):
    """A package was built; `build_time_ms` is None if it was not measured."""

    flake_ref: str
    attribute: str
    output_path: str
    build_time_ms: int | None = None


class PackageCached(Event, subject="package.cached"):
    """The build at `output_path` was pushed to a cache."""

    cache_url: str
    output_path: str


class PackageMarkedStale(Event, subject="package.marked_stale"):
    """A rebuild of the package would give another result."""

    reason: str
    inputs: list[str]


class Package(Struct, frozen=True):
    """The state of a package: its last build, and the cache it was last pushed to.

    `builds` counts the builds; `stale` means that a rebuild would give another result.
    """

    built: bool = False
    builds: int = 0
    flake_ref: str = ""
    attribute: str = ""
    output_path: str = ""
    cache_url: str | None = None
    stale: bool = False


package = Decider("package", initial=Package, snapshot_every=100)


@package.decides
def build(package: Package, command: BuildPackage) -> PackageBuilt:
    """Rejects with `invalid` if a field is empty.

    A package that was built before is rebuilt: never `already_exists`. Without an
    `output_path` the output is at `DEFAULT_OUTPUT_PATH`. The event has no `build_time_ms`, for the
    command reports none.
    """
    require_text(
        flake_ref=command.flake_ref, attribute=command.attribute, output_path=command.output_path
    )
    return PackageBuilt(
        flake_ref=command.flake_ref,
        attribute=command.attribute,
        output_path=DEFAULT_OUTPUT_PATH if command.output_path is None else command.output_path,
    )


@package.decides
def cache(package: Package, command: CachePackage) -> PackageCached:
    """Rejects with `not_built` or `invalid` (empty cache_url).

    A package begins with its first build, so an unknown one is `not_built`, not `not_found`. Each
    push, to the same cache or another one, is recorded.
    """
    _require_built(package)
    require_text(cache_url=command.cache_url)
    return PackageCached(cache_url=command.cache_url, output_path=package.output_path)


@package.decides
def mark_stale(package: Package, command: MarkPackageStale) -> PackageMarkedStale | None:
    """Rejects with `not_built` or `invalid` (empty reason).

    No event if the package is stale already, or was rebuilt since the named build.
    """
    _require_built(package)
    require_text(reason=command.reason)
    is_rebuilt = command.build is not None and command.build < package.builds
    if package.stale or is_rebuilt:
        return None
    return PackageMarkedStale(reason=command.reason, inputs=command.inputs)


@package.evolves
def built(package: Package, event: PackageBuilt) -> Package:
    """A new build, not stale and in no cache."""
    return Package(
        built=True,
        builds=package.builds + 1,
        flake_ref=event.flake_ref,
        attribute=event.attribute,
        output_path=event.output_path,
    )


@package.evolves
def cached(package: Package, event: PackageCached) -> Package:
    """The last build is in this cache."""
    return structs.replace(package, cache_url=event.cache_url)


@package.evolves
def marked_stale(package: Package, event: PackageMarkedStale) -> Package:
    """Stale until it is rebuilt."""
    return structs.replace(package, stale=True)


def _require_built(package: Package) -> None:
    if not package.built:
        raise Rejected("not_built", "this package was never built; build it first")
