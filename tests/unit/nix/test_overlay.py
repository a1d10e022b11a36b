from __future__ import annotations

import pytest

from eventstore.messages.types import Command
from eventstore.nix.overlay import (
    CreateOverlay,
    DeleteOverlay,
    Overlay,
    OverlayCreated,
    OverlayDeleted,
    OverlayUpdated,
    UpdateOverlay,
    overlay,
)
from eventstore.testing import Scenario, scenario

CREATED = OverlayCreated(name="patched-git", content="final: prev: { git = prev.git; }")
COMMANDS = [
    CreateOverlay(name="patched-git", content="{ }"),
    UpdateOverlay(content="{ }"),
    DeleteOverlay(),
]


def existing() -> Scenario[Overlay]:
    return scenario(overlay).given(CREATED)


def test_an_overlay_is_created() -> None:
    command = CreateOverlay(name=CREATED.name, content=CREATED.content)

    scenario(overlay).when(command).then(CREATED)
    scenario(overlay).when(command).then_state(
        Overlay(exists=True, name=CREATED.name, content=CREATED.content)
    )


def test_an_overlay_needs_a_name_but_no_content() -> None:
    scenario(overlay).when(CreateOverlay(name=" ", content="{ }")).then_rejected("invalid")
    scenario(overlay).when(CreateOverlay(name="patched-git", content="")).then(
        OverlayCreated(name="patched-git", content="")
    )


def test_creating_an_existing_overlay_is_rejected() -> None:
    existing().when(CreateOverlay(name="patched-git", content="{ }")).then_rejected(
        "already_exists"
    )


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_every_other_command_is_rejected_before_creation(command: Command) -> None:
    scenario(overlay).when(command).then_rejected("not_found")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_rejected_after_deletion(command: Command) -> None:
    existing().given(OverlayDeleted()).when(command).then_rejected("deleted")


def test_the_content_of_an_overlay_is_replaced() -> None:
    outcome = existing().when(UpdateOverlay(content="{ }"))

    outcome.then(OverlayUpdated(content="{ }"))
    outcome.then_state(Overlay(exists=True, name="patched-git", content="{ }"))


def test_identical_content_yields_no_event() -> None:
    existing().when(UpdateOverlay(content=CREATED.content)).then_nothing()


def test_a_deleted_overlay_keeps_only_its_name() -> None:
    outcome = existing().when(DeleteOverlay())

    outcome.then(OverlayDeleted())
    outcome.then_state(Overlay(deleted=True, name="patched-git"))
