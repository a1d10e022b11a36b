from __future__ import annotations

import pytest

from eventstore.messages.types import Command
from eventstore.nix.configuration import (
    ActivateConfiguration,
    Activation,
    Configuration,
    ConfigurationActivated,
    ConfigurationCreated,
    ConfigurationRolledBack,
    ConfigurationUpdated,
    CreateConfiguration,
    RollbackConfiguration,
    UpdateConfiguration,
    configuration,
)
from eventstore.testing import Scenario, scenario

CREATED = ConfigurationCreated(name="web1", modules=["base", "sshd"], overlays=["patched-git"])


def existing() -> Scenario[Configuration]:
    return scenario(configuration).given(CREATED)


def activated(generations: int) -> Scenario[Configuration]:
    history = [
        ConfigurationActivated(generation=generation, activation="switch")
        for generation in range(1, generations + 1)
    ]
    return existing().given(*history)


def test_a_configuration_is_created() -> None:
    command = CreateConfiguration(name="web1", modules=["base", "sshd"], overlays=["patched-git"])

    scenario(configuration).when(command).then(CREATED)
    scenario(configuration).when(command).then_state(
        Configuration(exists=True, name="web1", modules=("base", "sshd"), overlays=("patched-git",))
    )


def test_overlays_may_be_left_out() -> None:
    scenario(configuration).when(CreateConfiguration(name="web1", modules=[])).then(
        ConfigurationCreated(name="web1", modules=[], overlays=[])
    )


def test_creating_an_existing_configuration_is_rejected() -> None:
    existing().when(CreateConfiguration(name="web1", modules=[])).then_rejected("already_exists")


@pytest.mark.parametrize(
    "command",
    [
        CreateConfiguration(name=" ", modules=[]),
        CreateConfiguration(name="web1", modules=["base", ""]),
        CreateConfiguration(name="web1", modules=[], overlays=[" "]),
    ],
)
def test_a_configuration_its_modules_and_overlays_need_names(command: Command) -> None:
    scenario(configuration).when(command).then_rejected("invalid")


@pytest.mark.parametrize(
    "command",
    [
        UpdateConfiguration(modules=["base"]),
        ActivateConfiguration(activation="switch"),
        RollbackConfiguration(),
        RollbackConfiguration(generation=1),
    ],
)
def test_every_other_command_is_rejected_before_creation(command: Command) -> None:
    scenario(configuration).when(command).then_rejected("not_found")


def test_an_update_leaves_absent_lists_unchanged() -> None:
    existing().when(UpdateConfiguration(modules=["base"])).then(
        ConfigurationUpdated(modules=["base"], overlays=["patched-git"])
    )
    existing().when(UpdateConfiguration(overlays=[])).then(
        ConfigurationUpdated(modules=["base", "sshd"], overlays=[])
    )


def test_an_update_replaces_both_lists() -> None:
    outcome = existing().when(UpdateConfiguration(modules=["a"], overlays=["b"]))

    outcome.then(ConfigurationUpdated(modules=["a"], overlays=["b"]))
    outcome.then_state(Configuration(exists=True, name="web1", modules=("a",), overlays=("b",)))


def test_the_order_of_modules_is_significant() -> None:
    existing().when(UpdateConfiguration(modules=["sshd", "base"])).then(
        ConfigurationUpdated(modules=["sshd", "base"], overlays=["patched-git"])
    )


@pytest.mark.parametrize(
    "command",
    [
        UpdateConfiguration(),
        UpdateConfiguration(modules=["base", "sshd"]),
        UpdateConfiguration(modules=["base", "sshd"], overlays=["patched-git"]),
    ],
)
def test_an_update_that_changes_nothing_yields_no_event(command: Command) -> None:
    existing().when(command).then_nothing()


@pytest.mark.parametrize(
    "command", [UpdateConfiguration(modules=[""]), UpdateConfiguration(overlays=["a", "\t"])]
)
def test_an_update_needs_names(command: Command) -> None:
    existing().when(command).then_rejected("invalid")


@pytest.mark.parametrize("activation", ["switch", "boot", "test"])
def test_each_activation_creates_a_generation(activation: Activation) -> None:
    command = ActivateConfiguration(activation=activation)

    existing().when(command).then(ConfigurationActivated(generation=1, activation=activation))
    activated(2).when(command).then(ConfigurationActivated(generation=3, activation=activation))
    assert activated(2).when(command).state.current_generation == 3


def test_rollback_goes_to_the_generation_before() -> None:
    outcome = activated(3).when(RollbackConfiguration())

    outcome.then(ConfigurationRolledBack(from_generation=3, to_generation=2))
    assert (outcome.state.current_generation, outcome.state.last_generation) == (2, 3)


def test_rollback_goes_to_any_earlier_generation() -> None:
    activated(3).when(RollbackConfiguration(generation=1)).then(
        ConfigurationRolledBack(from_generation=3, to_generation=1)
    )


@pytest.mark.parametrize("generation", [-1, 0, 3, 4])
def test_rollback_needs_an_existing_earlier_generation(generation: int) -> None:
    activated(3).when(RollbackConfiguration(generation=generation)).then_rejected(
        "generation_unknown"
    )


def test_the_first_generation_cannot_be_rolled_back() -> None:
    activated(1).when(RollbackConfiguration()).then_rejected("generation_unknown")


@pytest.mark.parametrize("generation", [None, 1])
def test_rollback_needs_an_activation(generation: int | None) -> None:
    existing().when(RollbackConfiguration(generation=generation)).then_rejected("never_activated")


def test_rolling_back_twice_goes_further_back() -> None:
    once = activated(3).given(ConfigurationRolledBack(from_generation=3, to_generation=2))

    once.when(RollbackConfiguration()).then(
        ConfigurationRolledBack(from_generation=2, to_generation=1)
    )
    once.when(RollbackConfiguration(generation=3)).then_rejected("generation_unknown")


def test_after_a_rollback_the_next_generation_is_a_new_one() -> None:
    activated(3).given(ConfigurationRolledBack(from_generation=3, to_generation=1)).when(
        ActivateConfiguration(activation="boot")
    ).then(ConfigurationActivated(generation=4, activation="boot"))


def test_an_update_does_not_change_the_generations() -> None:
    state = activated(2).when(UpdateConfiguration(modules=[])).state

    assert (state.current_generation, state.last_generation) == (2, 2)
