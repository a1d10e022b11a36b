from __future__ import annotations

import msgspec
import pytest

from eventstore import nix
from eventstore.errors import InvalidPayload, InvalidSubject
from eventstore.messages.types import Message
from eventstore.nix import domain

# The table of the domain, literally: command, subject, fields, event, subject, fields.
TABLE = """
CreateFlake | nix.cmd.flake.create | path, description, template? | FlakeCreated | nix.event.flake.created | path, description, template?
UpdateFlake | nix.cmd.flake.update | inputs? | FlakeUpdated | nix.event.flake.updated | inputs
AddFlakeInput | nix.cmd.flake.add_input | name, url | FlakeInputAdded | nix.event.flake.input_added | name, url
RemoveFlakeInput | nix.cmd.flake.remove_input | name | FlakeInputRemoved | nix.event.flake.input_removed | name
BuildPackage | nix.cmd.package.build | flake_ref, attribute, output_path?, build_time_ms?, flake? | PackageBuilt | nix.event.package.built | flake_ref, attribute, output_path, build_time_ms?, flake?
CachePackage | nix.cmd.package.cache | cache_url | PackageCached | nix.event.package.cached | cache_url, output_path
MarkPackageStale | nix.cmd.package.mark_stale | reason, inputs?, build?, version? | PackageMarkedStale | nix.event.package.marked_stale | reason, inputs
CreateModule | nix.cmd.module.create | name, content | ModuleCreated | nix.event.module.created | name, content
UpdateModule | nix.cmd.module.update | content | ModuleUpdated | nix.event.module.updated | content
DeleteModule | nix.cmd.module.delete | | ModuleDeleted | nix.event.module.deleted |
CreateOverlay | nix.cmd.overlay.create | name, content | OverlayCreated | nix.event.overlay.created | name, content
UpdateOverlay | nix.cmd.overlay.update | content | OverlayUpdated | nix.event.overlay.updated | content
DeleteOverlay | nix.cmd.overlay.delete | | OverlayDeleted | nix.event.overlay.deleted |
CreateConfiguration | nix.cmd.config.create | name, modules, overlays? | ConfigurationCreated | nix.event.config.created | name, modules, overlays
UpdateConfiguration | nix.cmd.config.update | modules?, overlays? | ConfigurationUpdated | nix.event.config.updated | modules, overlays
ActivateConfiguration | nix.cmd.config.activate | activation | ConfigurationActivated | nix.event.config.activated | generation, activation
RollbackConfiguration | nix.cmd.config.rollback | generation? | ConfigurationRolledBack | nix.event.config.rolled_back | from_generation, to_generation
"""  # noqa: E501  # a table
ROWS = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
COMMANDS = [(row[0], row[1], row[2]) for row in ROWS]
EVENTS = [(row[3], row[4], row[5]) for row in ROWS]

TYPES: dict[str, object] = {
    "path": str,
    "description": str,
    "template": str | None,
    "name": str,
    "url": str,
    "flake_ref": str,
    "attribute": str,
    "cache_url": str,
    "content": str,
    "build_time_ms": int | None,
    "reason": str,
    "build": int | None,
    "version": int | None,
    "flake": str | None,
    "from_generation": int,
    "to_generation": int,
    "activation": nix.Activation,
    "CreateConfiguration.overlays": list[str],
    "UpdateConfiguration.modules": list[str] | None,
    "UpdateConfiguration.overlays": list[str] | None,
    "UpdateFlake.inputs": list[str] | None,
    "BuildPackage.output_path": str | None,
    "RollbackConfiguration.generation": int | None,
    "inputs": list[str],
    "modules": list[str],
    "overlays": list[str],
    "output_path": str,
    "generation": int,
}


def described(cls: type[Message]) -> str:
    return ", ".join(
        f"{field.name}{'' if field.required else '?'}" for field in msgspec.structs.fields(cls)
    )


def test_there_are_17_commands_and_17_events_and_no_others() -> None:
    codec = domain().codec

    assert {cls.__name__ for cls in codec.command_types} == {name for name, _, _ in COMMANDS}
    assert {cls.__name__ for cls in codec.event_types} == {name for name, _, _ in EVENTS}
    assert len(codec.command_types) == len(codec.event_types) == len(ROWS) == 17


@pytest.mark.parametrize(("name", "subject", "fields"), COMMANDS)
def test_command(name: str, subject: str, fields: str) -> None:
    codec = domain().codec
    cls: type[Message] = getattr(nix, name)

    assert codec.command_type(*subject.split(".")[2:]) is cls
    assert codec.subjects.command(cls.__aggregate__, cls.__action__) == subject
    assert described(cls) == fields


@pytest.mark.parametrize(("name", "subject", "fields"), EVENTS)
def test_event(name: str, subject: str, fields: str) -> None:
    codec = domain().codec
    cls: type[Message] = getattr(nix, name)

    assert codec.subjects.event(cls.__aggregate__, cls.__action__) == subject
    assert described(cls) == fields
    assert cls.__schema_version__ == (2 if name == "PackageBuilt" else 1)


@pytest.mark.parametrize("name", [name for name, _, _ in (*COMMANDS, *EVENTS)])
def test_field_types(name: str) -> None:
    for field in msgspec.structs.fields(getattr(nix, name)):
        expected = TYPES.get(f"{name}.{field.name}", TYPES[field.name])
        assert field.type == expected, field.name


def test_five_commands_need_no_aggregate_id() -> None:
    creating = {cls.__name__ for cls in domain().codec.command_types if cls.__creates__}

    assert creating == {
        "CreateFlake",
        "BuildPackage",
        "CreateModule",
        "CreateOverlay",
        "CreateConfiguration",
    }


def test_an_activation_is_one_of_three() -> None:
    codec = domain().codec

    with pytest.raises(InvalidPayload, match=r"\$\.activation"):
        codec.decode_command("config", "activate", b'{"activation":"reboot"}')


def test_the_domain_can_have_another_name() -> None:
    assert domain().name == "nix"
    assert domain("lab").codec.subjects.log_stream == "LAB_LOG"
    with pytest.raises(InvalidSubject, match="domain"):
        domain("Nix!")


def test_all_exports_exist_and_are_documented() -> None:
    for name in nix.__all__:
        assert getattr(nix, name) is not None
        assert name == "Activation" or getattr(nix, name).__doc__
    missing = {name for row in ROWS for name in (row[0], row[3])} - set(nix.__all__)
    assert not missing
