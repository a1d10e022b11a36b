"""Packages: built from a flake's attribute, and put into binary caches."""

from __future__ import annotations

import msgspec
from msgspec import Struct, structs

from eventstore import Command, Decider, Event, Rejected
from eventstore.nix.rules import require_text

__all__ = [
    "DEFAULT_OUTPUT_PATH",
    "BuildPackage",
    "CachePackage",
    "MarkPackageStale",
    "Package",
    "PackageBuilt",
    "PackageCached",
    "PackageMarkedStale",
    "package",
]

DEFAULT_OUTPUT_PATH = "result"
"""Where a build's output is when the command does not say: the out-link `nix build` makes."""


class BuildPackage(Command, subject="package.build", creates=True):
    """Build an attribute of a flake; sent to a built package, a rebuild."""

    flake_ref: str
    attribute: str
    output_path: str | None = None


class CachePackage(Command, subject="package.cache"):
    """Put the last build into a binary cache."""

    cache_url: str


class MarkPackageStale(Command, subject="package.mark_stale"):
    """Say that building again would no longer lead to the same, as when an input has changed.

    `inputs` are the flake's inputs it is due to, `build` is which build is meant, counted from 1:
    the last one, where it is absent.
    """

    reason: str
    inputs: list[str] = msgspec.field(default_factory=list)
    build: int | None = None


class PackageBuilt(Event, subject="package.built"):
    """A package was built; `build_time_ms` is None where it was not measured."""

    flake_ref: str
    attribute: str
    output_path: str
    build_time_ms: int | None = None


class PackageCached(Event, subject="package.cached"):
    """The build at `output_path` was put into a cache."""

    cache_url: str
    output_path: str


class PackageMarkedStale(Event, subject="package.marked_stale"):
    """Building the package again would no longer lead to the same."""

    reason: str
    inputs: list[str]


class Package(Struct, frozen=True):
    """The state of a package: its last build, and the cache that build was put into last.

    `builds` counts them; `stale` says that the last one is not what another would lead to.
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
    """Rejects with `invalid` where a field is empty.

    A package that was built before is built again: never `already_exists`. Without an
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

    A package begins with its first build, so one that is unknown is `not_built`, not `not_found`.
    Caching again, in the same cache or another, is recorded again.
    """
    _require_built(package)
    require_text(cache_url=command.cache_url)
    return PackageCached(cache_url=command.cache_url, output_path=package.output_path)


@package.decides
def mark_stale(package: Package, command: MarkPackageStale) -> PackageMarkedStale | None:
    """Rejects with `not_built` or `invalid` (empty reason).

    A package that is stale already, or that was built since the build that is meant: no event.
    """
    _require_built(package)
    require_text(reason=command.reason)
    is_rebuilt = command.build is not None and command.build < package.builds
    if package.stale or is_rebuilt:
        return None
    return PackageMarkedStale(reason=command.reason, inputs=command.inputs)


@package.evolves
def built(package: Package, event: PackageBuilt) -> Package:
    """A new build, in no cache yet, and fresh."""
    return Package(
        built=True,
        builds=package.builds + 1,
        flake_ref=event.flake_ref,
        attribute=event.attribute,
        output_path=event.output_path,
    )


@package.evolves
def cached(package: Package, event: PackageCached) -> Package:
    """The last build, now in this cache."""
    return structs.replace(package, cache_url=event.cache_url)


@package.evolves
def marked_stale(package: Package, event: PackageMarkedStale) -> Package:
    """Until it is built again."""
    return structs.replace(package, stale=True)


def _require_built(package: Package) -> None:
    if not package.built:
        raise Rejected("not_built", "this package was never built; build it first")
