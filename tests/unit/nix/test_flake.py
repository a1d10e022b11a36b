from __future__ import annotations

import pytest

from eventstore.messages.types import Command
from eventstore.nix.flake import (
    AddFlakeInput,
    CreateFlake,
    Flake,
    FlakeCreated,
    FlakeInputAdded,
    FlakeInputRemoved,
    FlakeUpdated,
    RemoveFlakeInput,
    UpdateFlake,
    flake,
)
from eventstore.testing import Scenario, scenario

CREATED = FlakeCreated(path="/srv/web", description="the web server")
NIXPKGS = FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs")
UTILS = FlakeInputAdded(name="utils", url="github:numtide/flake-utils")


def existing() -> Scenario[Flake]:
    return scenario(flake).given(CREATED)


def with_inputs() -> Scenario[Flake]:
    return existing().given(NIXPKGS, UTILS)


def test_a_flake_is_created() -> None:
    command = CreateFlake(path="/srv/web", description="the web server")

    scenario(flake).when(command).then(CREATED)
    scenario(flake).when(command).then_state(
        Flake(exists=True, path="/srv/web", description="the web server")
    )


def test_template_and_description_are_optional() -> None:
    command = CreateFlake(path="/srv/web", description="", template="templates#rust")

    scenario(flake).when(command).then(
        FlakeCreated(path="/srv/web", description="", template="templates#rust")
    )
    assert scenario(flake).when(command).state.template == "templates#rust"


def test_creating_an_existing_flake_is_rejected() -> None:
    existing().when(CreateFlake(path="/srv/web", description="")).then_rejected("already_exists")


@pytest.mark.parametrize("path", ["", " ", "\t\n"])
def test_a_flake_needs_a_path(path: str) -> None:
    scenario(flake).when(CreateFlake(path=path, description="x")).then_rejected("invalid")


@pytest.mark.parametrize(
    "command",
    [
        UpdateFlake(),
        UpdateFlake(inputs=["nixpkgs"]),
        AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs"),
        AddFlakeInput(name="", url=""),
        RemoveFlakeInput(name="nixpkgs"),
    ],
)
def test_every_other_command_is_rejected_before_creation(command: Command) -> None:
    scenario(flake).when(command).then_rejected("not_found")


def test_inputs_keep_the_order_of_their_addition() -> None:
    assert with_inputs().state.inputs == {
        "nixpkgs": "github:NixOS/nixpkgs",
        "utils": "github:numtide/flake-utils",
    }
    assert list(with_inputs().state.inputs) == ["nixpkgs", "utils"]


def test_an_input_is_added() -> None:
    existing().when(AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")).then(NIXPKGS)


def test_adding_the_same_input_again_is_idempotent() -> None:
    with_inputs().when(AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")).then_nothing()


def test_an_input_name_is_unique() -> None:
    with_inputs().when(AddFlakeInput(name="nixpkgs", url="path:/n")).then_rejected("input_exists")


@pytest.mark.parametrize(
    ("name", "url"), [("", "path:/n"), (" ", "path:/n"), ("n", ""), ("n", " ")]
)
def test_an_input_needs_a_name_and_a_url(name: str, url: str) -> None:
    existing().when(AddFlakeInput(name=name, url=url)).then_rejected("invalid")


def test_an_input_is_removed() -> None:
    outcome = with_inputs().when(RemoveFlakeInput(name="nixpkgs"))

    outcome.then(FlakeInputRemoved(name="nixpkgs"))
    assert outcome.state.inputs == {"utils": "github:numtide/flake-utils"}


def test_an_unknown_input_cannot_be_removed() -> None:
    existing().when(RemoveFlakeInput(name="nixpkgs")).then_rejected("input_unknown")


def test_a_removed_input_can_be_added_again_with_another_url() -> None:
    removed = with_inputs().given(FlakeInputRemoved(name="nixpkgs"))

    removed.when(RemoveFlakeInput(name="nixpkgs")).then_rejected("input_unknown")
    removed.when(AddFlakeInput(name="nixpkgs", url="path:/n")).then(
        FlakeInputAdded(name="nixpkgs", url="path:/n")
    )


def test_updating_without_names_updates_all_inputs() -> None:
    with_inputs().when(UpdateFlake()).then(FlakeUpdated(inputs=["nixpkgs", "utils"]))


def test_updating_names_each_input_once_in_the_order_of_addition() -> None:
    with_inputs().when(UpdateFlake(inputs=["utils", "nixpkgs", "utils"])).then(
        FlakeUpdated(inputs=["nixpkgs", "utils"])
    )


def test_updating_inputs_does_not_change_the_state() -> None:
    outcome = with_inputs().when(UpdateFlake(inputs=["utils"]))

    outcome.then(FlakeUpdated(inputs=["utils"]))
    outcome.then_state(with_inputs().state)


def test_an_update_is_recorded_each_time() -> None:
    with_inputs().given(FlakeUpdated(inputs=["utils"])).when(UpdateFlake(inputs=["utils"])).then(
        FlakeUpdated(inputs=["utils"])
    )


def test_an_unknown_input_cannot_be_updated() -> None:
    outcome = with_inputs().when(UpdateFlake(inputs=["utils", "nope"]))

    outcome.then_rejected("input_unknown")
    assert outcome.rejection is not None
    assert "'nope'" in outcome.rejection.message


def test_updating_no_input_yields_no_event() -> None:
    with_inputs().when(UpdateFlake(inputs=[])).then_nothing()
    existing().when(UpdateFlake()).then_nothing()
