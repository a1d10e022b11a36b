"""The Nix domain: flakes, packages, modules, overlays and configurations, as deciders.

Deciders record decisions and reported results; they do not run `nix`. Each kind of aggregate has
a module with its commands, events, state and decider (`eventstore.nix.flake.flake` and so on).

Rejections carry one of these codes, which are stable:

    already_exists      creating an aggregate that exists
    not_found           any command on an aggregate that was never created
    deleted             any command, creation too, on a deleted aggregate
    invalid             a name, path, url or reference is empty, or another value is not possible
    input_exists        adding an input under a name that has another url
    input_unknown       updating or removing an input that the flake does not have
    not_built           caching a package, or marking it stale, before it was built
    never_activated     rolling back before any activation
    generation_unknown  rolling back to a generation that is not an earlier one
"""

from __future__ import annotations

from eventstore import Domain
from eventstore.nix import configuration, flake, module, overlay, package
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
)
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
)
from eventstore.nix.lockfile import (
    ImportedCommand,
    LockedInput,
    LockFile,
    change_commands,
    import_commands,
    read_lock_file,
    samples,
)
from eventstore.nix.module import (
    CreateModule,
    DeleteModule,
    Module,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    UpdateModule,
)
from eventstore.nix.overlay import (
    CreateOverlay,
    DeleteOverlay,
    Overlay,
    OverlayCreated,
    OverlayDeleted,
    OverlayUpdated,
    UpdateOverlay,
)
from eventstore.nix.package import (
    BuildPackage,
    CachePackage,
    MarkPackageStale,
    Package,
    PackageBuilt,
    PackageCached,
    PackageMarkedStale,
)
from eventstore.nix.queries import (
    QUERIES,
    CacheView,
    ChangeView,
    ConfigurationView,
    FlakeInputView,
    FlakeView,
    GenerationView,
    GetConfiguration,
    GetConfigurationHistory,
    GetCurrentConfiguration,
    GetFlake,
    GetFlakeInputs,
    GetModule,
    GetOverlay,
    GetPackage,
    GetPackageStatus,
    InputUseView,
    ListConfigurations,
    ListFlakes,
    ListInputs,
    ListModules,
    ListOverlays,
    ListPackages,
    PackageStatus,
    PackageView,
    SourceItem,
    SourceView,
)
from eventstore.nix.reference import flake_named_by

__all__ = [
    "DECIDERS",
    "QUERIES",
    "ActivateConfiguration",
    "Activation",
    "AddFlakeInput",
    "BuildPackage",
    "CachePackage",
    "CacheView",
    "ChangeView",
    "Configuration",
    "ConfigurationActivated",
    "ConfigurationCreated",
    "ConfigurationRolledBack",
    "ConfigurationUpdated",
    "ConfigurationView",
    "CreateConfiguration",
    "CreateFlake",
    "CreateModule",
    "CreateOverlay",
    "DeleteModule",
    "DeleteOverlay",
    "Flake",
    "FlakeCreated",
    "FlakeInputAdded",
    "FlakeInputRemoved",
    "FlakeInputView",
    "FlakeUpdated",
    "FlakeView",
    "GenerationView",
    "GetConfiguration",
    "GetConfigurationHistory",
    "GetCurrentConfiguration",
    "GetFlake",
    "GetFlakeInputs",
    "GetModule",
    "GetOverlay",
    "GetPackage",
    "GetPackageStatus",
    "ImportedCommand",
    "InputUseView",
    "ListConfigurations",
    "ListFlakes",
    "ListInputs",
    "ListModules",
    "ListOverlays",
    "ListPackages",
    "LockFile",
    "LockedInput",
    "MarkPackageStale",
    "Module",
    "ModuleCreated",
    "ModuleDeleted",
    "ModuleUpdated",
    "Overlay",
    "OverlayCreated",
    "OverlayDeleted",
    "OverlayUpdated",
    "Package",
    "PackageBuilt",
    "PackageCached",
    "PackageMarkedStale",
    "PackageStatus",
    "PackageView",
    "RemoveFlakeInput",
    "RollbackConfiguration",
    "SourceItem",
    "SourceView",
    "UpdateConfiguration",
    "UpdateFlake",
    "UpdateModule",
    "UpdateOverlay",
    "change_commands",
    "domain",
    "flake_named_by",
    "import_commands",
    "read_lock_file",
    "samples",
]


DECIDERS = (
    flake.flake,
    package.package,
    module.module,
    overlay.overlay,
    configuration.configuration,
)
"""What happens to each kind of aggregate of the Nix domain."""


def domain(name: str = "nix") -> Domain:
    """The Nix domain, under its own name or another; raises `InvalidSubject` for an illegal one."""
    return Domain("nix", DECIDERS).renamed(name)
