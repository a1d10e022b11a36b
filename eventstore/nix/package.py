"""Packages: built from a flake's attribute and pushed to binary caches."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, structs

from eventstore import Command, Decider, Event, Rejected
from eventstore.nix.reference import flake_named_by
from eventstore.nix.rules import require_text

DEFAULT_OUTPUT_PATH = "result"
"""The output path of a build whose command names none: the link that `nix build` creates."""


class BuildPackage(Command, subject="package.build", creates=True):
    """Build an attribute of a flake; a built package is rebuilt.

    `flake` is the id of the flake; it may be left out if `flake_ref` is that, as `mine#hello`. The
    build becomes stale only by changes of a flake that is named.
    """

    flake_ref: str
    attribute: str
    output_path: str | None = None
    build_time_ms: int | None = None
    flake: str | None = None


class CachePackage(Command, subject="package.cache"):
    """Push the last build to a binary cache."""

    cache_url: str


class MarkPackageStale(Command, subject="package.mark_stale"):
    """Mark a build as stale: a rebuild would give another result, as after a changed input.

    `inputs` are the flake's inputs that changed. `build` is the number of the build, from 1, and
    `version` that of the package at the build; if both are absent, it is the last one.
    """

    reason: str
    inputs: list[str] = msgspec.field(default_factory=list)
    build: int | None = None
    version: int | None = None


class PackageBuilt(Event, subject="package.built", schema_version=2):
    """A package was built; `build_time_ms` is None if it was not measured.

    `flake` is the id of the flake that it was built from, None if the build named none.
    """

    flake_ref: str
    attribute: str
    output_path: str
    build_time_ms: int | None = None
    flake: str | None = None


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

    `builds` counts the builds; `stale` means that a rebuild would give another result. `version`
    counts the events, and `built_version` is what it was at the last build.
    """

    version: int = 0
    built_version: int = 0
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
    """Rejects with `invalid` if a field is empty, a time negative, or `flake` cannot be an id.

    A package that was built before is rebuilt: never `already_exists`. Without an
    `output_path` the output is at `DEFAULT_OUTPUT_PATH`.
    """
    require_text(
        flake_ref=command.flake_ref, attribute=command.attribute, output_path=command.output_path
    )
    flake = flake_named_by(command.flake_ref) if command.flake is None else command.flake
    if flake is not None and flake != flake_named_by(flake):
        raise Rejected("invalid", f"flake {flake!r} is not the id of a flake")
    if command.build_time_ms is not None and command.build_time_ms < 0:
        raise Rejected("invalid", "build_time_ms must not be negative")
    return PackageBuilt(
        flake_ref=command.flake_ref,
        attribute=command.attribute,
        output_path=DEFAULT_OUTPUT_PATH if command.output_path is None else command.output_path,
        build_time_ms=command.build_time_ms,
        flake=flake,
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
    build = package.builds if command.build is None else command.build
    version = package.built_version if command.version is None else command.version
    if package.stale or build < package.builds or version < package.built_version:
        return None
    return PackageMarkedStale(reason=command.reason, inputs=command.inputs)


@package.evolves
def built(package: Package, event: PackageBuilt) -> Package:
    """A new build, not stale and in no cache."""
    version = package.version + 1
    return Package(
        version=version,
        built_version=version,
        built=True,
        builds=package.builds + 1,
        flake_ref=event.flake_ref,
        attribute=event.attribute,
        output_path=event.output_path,
    )


@package.evolves
def cached(package: Package, event: PackageCached) -> Package:
    """The last build is in this cache."""
    return structs.replace(package, version=package.version + 1, cache_url=event.cache_url)


@package.evolves
def marked_stale(package: Package, event: PackageMarkedStale) -> Package:
    """Stale until it is rebuilt."""
    return structs.replace(package, version=package.version + 1, stale=True)


@package.upcasts("PackageBuilt", 1)
def with_flake(data: dict[str, Any]) -> dict[str, Any]:
    """The flake was named by the reference only, which may have its id."""
    return {**data, "flake": flake_named_by(data["flake_ref"])}


def _require_built(package: Package) -> None:
    if not package.built:
        raise Rejected("not_built", "this package was never built; build it first")
