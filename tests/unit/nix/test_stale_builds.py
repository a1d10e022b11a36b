from __future__ import annotations

import pytest

from eventstore import Send
from eventstore.messages.types import Event
from eventstore.nix import (
    FlakeInputAdded,
    FlakeInputRemoved,
    FlakeUpdated,
    MarkPackageStale,
    PackageBuilt,
)
from eventstore.nix.stale_builds import Builds, stale_builds
from eventstore.processes.testing import scenario

BUILT = PackageBuilt(flake_ref="f1#hello", attribute="hello", output_path="out", flake="f1")
ELSEWHERE = PackageBuilt(flake_ref="./other", attribute="hello", output_path="out", flake="f2")
UNNAMED = PackageBuilt(flake_ref="./f1", attribute="hello", output_path="out")
ADDED = FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs")


def mark(to: str, version: int, change: str = "nixpkgs added") -> Send[MarkPackageStale]:
    inputs = change.rpartition(" ")[0].removesuffix(" locked").split(", ")
    command = MarkPackageStale(reason=f"flake f1: {change}", inputs=inputs, version=version)
    return Send(command, to)


@pytest.mark.parametrize(
    ("event", "change"),
    [
        (ADDED, "nixpkgs added"),
        (FlakeInputRemoved(name="nixpkgs"), "nixpkgs removed"),
        (FlakeUpdated(inputs=["nixpkgs", "utils"]), "nixpkgs, utils locked anew"),
    ],
)
def test_all_builds_from_a_flake_are_stale_when_its_inputs_change(
    event: Event, change: str
) -> None:
    built = scenario(stale_builds).given("p2", BUILT, BUILT).given("p1", BUILT)

    built.given("p3", ELSEWHERE).when("f1", event).then(
        mark("p1", 1, change), mark("p2", 2, change)
    )
    built.when("f1", event).then_ended("f1")


def test_nothing_follows_from_a_build() -> None:
    scenario(stale_builds).when("p1", BUILT).then_nothing()
    scenario(stale_builds).when("p1", BUILT).then_state("f1", Builds({"p1": 1}))


def test_a_change_without_builds_passes_by() -> None:
    assert not scenario(stale_builds).when("f1", ADDED).then_nothing().runs("f1")


def test_what_is_stale_is_not_marked_again_until_it_is_rebuilt() -> None:
    changed = scenario(stale_builds).given("p1", BUILT).given("p2", BUILT).given("f1", ADDED)

    changed.when("f1", ADDED).then_nothing()
    changed.given("p2", BUILT).when("f1", ADDED).then(mark("p2", 2))


def test_a_build_that_names_no_flake_is_for_no_process() -> None:
    unnamed = scenario(stale_builds).given("p1", UNNAMED)

    unnamed.when("f1", ADDED).then_nothing()


def test_other_flakes_are_not_concerned() -> None:
    scenario(stale_builds).given("p1", BUILT).when("f2", ADDED).then_nothing()
