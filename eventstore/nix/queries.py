"""The queries of the Nix domain, and the views that answer them.

Each view has the aggregate's version and the log position of the last event that changed it. Times
are RFC 3339 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from eventstore import ListQuery, Query
from eventstore.nix.configuration import Activation

_Text = Annotated[str, Meta(pattern=r"^[^\x00]*\Z")]  # PostgreSQL knows no text with a NUL
_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,128}\Z")]

FlakeId = Annotated[_Id, Meta(description="The flake's id.")]
PackageId = Annotated[_Id, Meta(description="The package's id.")]
ModuleId = Annotated[_Id, Meta(description="The module's id.")]
OverlayId = Annotated[_Id, Meta(description="The overlay's id.")]
ConfigurationId = Annotated[_Id, Meta(description="The configuration's id.")]
Name = Annotated[_Text | None, Meta(description="Only those of this name.")]
NamePrefix = Annotated[_Text | None, Meta(description="Only names that begin with this.")]
Deleted = Annotated[
    bool | None, Meta(description="Those that are deleted, those that are not, or both (null).")
]


class FlakeView(Struct, frozen=True, kw_only=True):
    """A flake."""

    id: str
    path: str
    description: str
    template: str | None
    version: int
    position: int
    created_at: datetime
    updated_at: datetime


class FlakeInputView(Struct, frozen=True, kw_only=True):
    """An input of a flake; `updated_at` is when it was added or its lock was updated."""

    name: str
    url: str
    version: int
    position: int
    created_at: datetime
    updated_at: datetime


class InputUseView(Struct, frozen=True, kw_only=True):
    """A flake that uses an input, since the event at this version and position."""

    name: str
    url: str
    flake_id: str
    path: str
    version: int
    position: int
    created_at: datetime


class PackageView(Struct, frozen=True, kw_only=True):
    """A package and its last build; `cache_url` is the cache that build was last pushed to.

    `flake` is the id of the flake whose changes make the build stale; None if it named none.
    """

    id: str
    flake_ref: str
    flake: str | None
    attribute: str
    output_path: str
    build_time_ms: int | None
    builds: int
    built_at: datetime
    cache_url: str | None
    cached_at: datetime | None
    stale: bool
    stale_reason: str | None
    version: int
    position: int
    created_at: datetime
    updated_at: datetime


class CacheView(Struct, frozen=True, kw_only=True):
    """The build of a package that a cache has, perhaps not the last one."""

    cache_url: str
    output_path: str
    is_current: bool
    cached_at: datetime
    version: int
    position: int


class PackageStatus(Struct, frozen=True, kw_only=True):
    """The status of a package's last build, "built" or "cached", and what each cache has."""

    id: str
    status: Literal["built", "cached"]
    output_path: str
    builds: int
    build_time_ms: int | None
    built_at: datetime
    stale: bool
    caches: list[CacheView]
    version: int
    position: int


class SourceItem(Struct, frozen=True, kw_only=True):
    """A module or an overlay in a list, without its content."""

    id: str
    name: str
    deleted: bool
    version: int
    position: int
    created_at: datetime
    updated_at: datetime


class SourceView(SourceItem, frozen=True, kw_only=True):
    """A module or an overlay; the content of a deleted one is empty."""

    content: str


class ConfigurationView(Struct, frozen=True, kw_only=True):
    """A configuration; both generations are 0 before the first activation.

    `activated_at` is when the current generation became the current one.
    """

    id: str
    name: str
    modules: list[str]
    overlays: list[str]
    current_generation: int
    last_generation: int
    activated_at: datetime | None
    version: int
    position: int
    created_at: datetime
    updated_at: datetime


class GenerationView(Struct, frozen=True, kw_only=True):
    """The current generation of a configuration, with its modules and overlays.

    `activated_at` is when the generation was created, `current_since` when it last became the
    current one, as by a rollback. `version` and `position` are of the event that created it.
    """

    id: str
    name: str
    generation: int
    activation: Activation
    modules: list[str]
    overlays: list[str]
    activated_at: datetime
    current_since: datetime
    version: int
    position: int


class ChangeView(Struct, frozen=True, kw_only=True):
    """An event in the history of a configuration; `generation` is the resulting one."""

    version: int
    change: str
    generation: int | None
    from_generation: int | None
    activation: str | None
    actor: str | None
    event_id: str
    position: int
    changed_at: datetime


class GetFlake(Query[FlakeView], subject="flake.get"):
    """Show a flake."""

    id: FlakeId


class ListFlakes(ListQuery[FlakeView], subject="flake.list"):
    """List flakes, by path."""

    path: Annotated[_Text | None, Meta(description="Only those with this path.")] = None
    path_prefix: Annotated[_Text | None, Meta(description="Only paths that begin with this.")] = (
        None
    )
    input_name: Annotated[
        _Text | None, Meta(description="Only those with an input of this name.")
    ] = None
    input_url: Annotated[
        _Text | None, Meta(description="Only those with an input from this URL.")
    ] = None


class GetFlakeInputs(ListQuery[FlakeInputView], subject="flake.get_inputs"):
    """List the inputs of a flake, by name."""

    id: FlakeId


class ListInputs(ListQuery[InputUseView], subject="input.list"):
    """List which flakes use which inputs, and at which urls."""

    name: Annotated[_Text | None, Meta(description="Only the input of this name.")] = None
    name_prefix: NamePrefix = None
    url: Annotated[_Text | None, Meta(description="Only those at this url.")] = None


class GetPackage(Query[PackageView], subject="package.get"):
    """Show a package and its last build."""

    id: PackageId


class ListPackages(ListQuery[PackageView], subject="package.list"):
    """List packages, by flake and attribute."""

    flake_ref: Annotated[_Text | None, Meta(description="Only those of this flake.")] = None
    flake_ref_prefix: Annotated[
        _Text | None, Meta(description="Only flake references that begin with this.")
    ] = None
    attribute: Annotated[_Text | None, Meta(description="Only those of this attribute.")] = None
    cached: Annotated[
        bool | None,
        Meta(description="Those whose last build is in a cache, those where it is not, or both."),
    ] = None
    stale: Annotated[
        bool | None,
        Meta(description="Those that are stale, those that are not, or both."),
    ] = None


class GetPackageStatus(Query[PackageStatus], subject="package.get_status"):
    """Show the status of a package, and what each cache has."""

    id: PackageId


class GetModule(Query[SourceView], subject="module.get"):
    """Show a module and its content."""

    id: ModuleId


class ListModules(ListQuery[SourceItem], subject="module.list"):
    """List modules, by name, without their contents."""

    name: Name = None
    name_prefix: NamePrefix = None
    deleted: Deleted = False


class GetOverlay(Query[SourceView], subject="overlay.get"):
    """Show an overlay and its content."""

    id: OverlayId


class ListOverlays(ListQuery[SourceItem], subject="overlay.list"):
    """List overlays, by name, without their contents."""

    name: Name = None
    name_prefix: NamePrefix = None
    deleted: Deleted = False


class GetConfiguration(Query[ConfigurationView], subject="config.get"):
    """Show a configuration."""

    id: ConfigurationId


class ListConfigurations(ListQuery[ConfigurationView], subject="config.list"):
    """List configurations, by name."""

    name: Name = None
    name_prefix: NamePrefix = None
    module: Annotated[_Text | None, Meta(description="Only those that use this module.")] = None
    overlay: Annotated[_Text | None, Meta(description="Only those that use this overlay.")] = None
    activated: Annotated[
        bool | None,
        Meta(description="Those that were activated, those that never were, or both."),
    ] = None


class GetCurrentConfiguration(Query[GenerationView], subject="config.get_current"):
    """Show the current generation of a configuration."""

    id: ConfigurationId


class GetConfigurationHistory(ListQuery[ChangeView], subject="config.get_history"):
    """List the changes of a configuration, oldest first."""

    id: ConfigurationId


QUERIES: tuple[type[Query[Any]], ...] = (
    GetFlake,
    ListFlakes,
    GetFlakeInputs,
    ListInputs,
    GetPackage,
    ListPackages,
    GetPackageStatus,
    GetModule,
    ListModules,
    GetOverlay,
    ListOverlays,
    GetConfiguration,
    ListConfigurations,
    GetCurrentConfiguration,
    GetConfigurationHistory,
)
"""All queries of the Nix domain."""
