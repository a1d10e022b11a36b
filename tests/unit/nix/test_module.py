from __future__ import annotations

import pytest

from eventstore.messages.types import Command
from eventstore.nix.module import (
    CreateModule,
    DeleteModule,
    Module,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    UpdateModule,
    module,
)
from eventstore.testing import Scenario, scenario

CREATED = ModuleCreated(name="sshd", content="{ services.openssh.enable = true; }")
COMMANDS = [
    CreateModule(name="sshd", content="{ }"),
    UpdateModule(content="{ }"),
    DeleteModule(),
]


def existing() -> Scenario[Module]:
    return scenario(module).given(CREATED)


def test_a_module_is_created() -> None:
    command = CreateModule(name=CREATED.name, content=CREATED.content)

    scenario(module).when(command).then(CREATED)
    scenario(module).when(command).then_state(
        Module(exists=True, name=CREATED.name, content=CREATED.content)
    )


def test_a_module_needs_a_name_but_no_content() -> None:
    scenario(module).when(CreateModule(name=" ", content="{ }")).then_rejected("invalid")
    scenario(module).when(CreateModule(name="sshd", content="")).then(
        ModuleCreated(name="sshd", content="")
    )


def test_creating_an_existing_module_is_rejected() -> None:
    existing().when(CreateModule(name="sshd", content="{ }")).then_rejected("already_exists")


@pytest.mark.parametrize("command", COMMANDS[1:])
def test_every_other_command_is_rejected_before_creation(command: Command) -> None:
    scenario(module).when(command).then_rejected("not_found")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_rejected_after_deletion(command: Command) -> None:
    existing().given(ModuleDeleted()).when(command).then_rejected("deleted")


def test_the_content_of_a_module_is_replaced() -> None:
    outcome = existing().when(UpdateModule(content="{ }"))

    outcome.then(ModuleUpdated(content="{ }"))
    outcome.then_state(Module(exists=True, name="sshd", content="{ }"))


def test_identical_content_yields_no_event() -> None:
    existing().when(UpdateModule(content=CREATED.content)).then_nothing()


def test_a_deleted_module_keeps_only_its_name() -> None:
    outcome = existing().when(DeleteModule())

    outcome.then(ModuleDeleted())
    outcome.then_state(Module(deleted=True, name="sshd"))
