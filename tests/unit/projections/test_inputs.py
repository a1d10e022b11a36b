"""A read model over several aggregates: which flakes use an input, and at which url."""

from __future__ import annotations

from eventstore.nix import FlakeCreated, FlakeInputAdded, FlakeInputRemoved
from eventstore.projections.testing import scenario
from projections.inputs import inputs
from projections.models import input_use

STABLE = "github:NixOS/nixpkgs/nixos-26.05"
UNSTABLE = "github:NixOS/nixpkgs/nixos-unstable"

two_flakes = (
    scenario(inputs)
    .given("f1", FlakeCreated(path="./one", description=""))
    .given("f2", FlakeCreated(path="./two", description=""))
)


def using(url: str, name: str = "nixpkgs") -> FlakeInputAdded:
    return FlakeInputAdded(name=name, url=url)


def test_the_flakes_that_use_an_input_at_a_url() -> None:
    (
        two_flakes.given("f1", using(STABLE), using("path:/lib", "lib"))
        .given("f2", using(STABLE))
        .then(
            input_use,
            {"name": "nixpkgs", "url": STABLE, "flake_id": "f1", "path": "./one", "version": 2},
            {"name": "nixpkgs", "url": STABLE, "flake_id": "f2", "path": "./two", "position": 5},
            {"name": "lib", "flake_id": "f1"},
        )
    )


def test_a_flake_that_moves_to_another_url() -> None:
    moved = (
        two_flakes.given("f1", using(STABLE))
        .given("f2", using(STABLE))
        .given("f2", FlakeInputRemoved(name="nixpkgs"), using(UNSTABLE))
    )

    moved.then(input_use, {"url": STABLE, "flake_id": "f1"}, {"url": UNSTABLE, "flake_id": "f2"})
    moved.given("f1", FlakeInputRemoved(name="nixpkgs")).then(input_use, {"url": UNSTABLE})


def test_flakes_without_inputs_are_in_no_list() -> None:
    two_flakes.then(input_use)
