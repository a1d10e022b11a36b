"""The queries of the Nix domain, answered from its read models."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, Table, bindparam, exists, select, true

from eventstore import Listed, Query, nix
from eventstore.errors import QueryNotFound
from eventstore.projections.queries import QueryHandlers, Rows, begins, equals, given, has_element
from projections.configurations import configurations
from projections.flakes import flakes
from projections.inputs import inputs
from projections.models import (
    configuration,
    configuration_change,
    configuration_generation,
    flake,
    flake_input,
    input_use,
    module,
    overlay,
    package,
    package_cache,
)
from projections.packages import packages
from projections.sources import modules, overlays

A = TypeVar("A")

_flakes = QueryHandlers(flakes)
_inputs = QueryHandlers(inputs)
_packages = QueryHandlers(packages)
_modules = QueryHandlers(modules)
_overlays = QueryHandlers(overlays)
_configurations = QueryHandlers(configurations)


def nix_queries() -> tuple[QueryHandlers, ...]:
    """The handlers of all queries of the Nix domain."""
    return _flakes, _inputs, _packages, _modules, _overlays, _configurations


@_flakes.answers
def get_flake(query: nix.GetFlake, rows: Rows) -> nix.FlakeView:
    """One flake."""
    return _one(query, query.id, flake, rows)


@_flakes.answers
def list_flakes(query: nix.ListFlakes, rows: Rows) -> Listed[nix.FlakeView]:
    """Flakes by path."""
    statement = select(flake).where(
        equals(flake.c.path, query.path),
        begins(flake.c.path, query.path_prefix),
        _has_input(query.input_name, query.input_url),
    )
    return rows.page(query, statement, by=(flake.c.path, flake.c.id))


@_flakes.answers
def get_inputs(query: nix.GetFlakeInputs, rows: Rows) -> Listed[nix.FlakeInputView]:
    """The inputs of one flake, by name."""
    _require(rows, flake, query.id, "flake")
    statement = select(flake_input).where(flake_input.c.flake_id == query.id)
    return rows.page(query, statement, by=(flake_input.c.name,))


@_inputs.answers
def list_inputs(query: nix.ListInputs, rows: Rows) -> Listed[nix.InputUseView]:
    """The uses of inputs, by name and url."""
    statement = select(input_use).where(
        equals(input_use.c.name, query.name),
        begins(input_use.c.name, query.name_prefix),
        equals(input_use.c.url, query.url),
    )
    return rows.page(query, statement, by=(input_use.c.name, input_use.c.url, input_use.c.flake_id))


@_packages.answers
def get_package(query: nix.GetPackage, rows: Rows) -> nix.PackageView:
    """One package."""
    return _one(query, query.id, package, rows)


@_packages.answers
def list_packages(query: nix.ListPackages, rows: Rows) -> Listed[nix.PackageView]:
    """Packages by flake and attribute."""
    of_attribute = (
        true()
        if query.attribute is None
        # With an equality, SQLite no longer uses the rest of the index for sorting.
        else package.c.attribute.between(query.attribute, query.attribute)
    )
    statement = select(package).where(
        equals(package.c.flake_ref, query.flake_ref),
        begins(package.c.flake_ref, query.flake_ref_prefix),
        of_attribute,
        given(package.c.cache_url, query.cached),
        equals(package.c.stale, query.stale),
    )
    return rows.page(query, statement, by=(package.c.flake_ref, package.c.attribute, package.c.id))


@_packages.answers
def get_package_status(query: nix.GetPackageStatus, rows: Rows) -> nix.PackageStatus:
    """The last build of a package, and the builds that caches have."""
    last = _one(nix.GetPackage(id=query.id), query.id, package, rows)
    is_current = (package_cache.c.output_path == last.output_path).label("is_current")
    caches = (
        select(package_cache, is_current)
        .where(package_cache.c.package_id == query.id)
        .order_by(package_cache.c.cache_url)
    )
    return nix.PackageStatus(
        id=last.id,
        status="built" if last.cache_url is None else "cached",
        output_path=last.output_path,
        builds=last.builds,
        build_time_ms=last.build_time_ms,
        built_at=last.built_at,
        stale=last.stale,
        caches=rows.all(caches, nix.CacheView),
        version=last.version,
        position=last.position,
    )


@_modules.answers
def get_module(query: nix.GetModule, rows: Rows) -> nix.SourceView:
    """One module, with its content."""
    return _one(query, query.id, module, rows)


@_modules.answers
def list_modules(query: nix.ListModules, rows: Rows) -> Listed[nix.SourceItem]:
    """Modules by name."""
    return rows.page(query, _sources(module, query), by=(module.c.name, module.c.id))


@_overlays.answers
def get_overlay(query: nix.GetOverlay, rows: Rows) -> nix.SourceView:
    """One overlay, with its content."""
    return _one(query, query.id, overlay, rows)


@_overlays.answers
def list_overlays(query: nix.ListOverlays, rows: Rows) -> Listed[nix.SourceItem]:
    """Overlays by name."""
    return rows.page(query, _sources(overlay, query), by=(overlay.c.name, overlay.c.id))


@_configurations.answers
def get_configuration(query: nix.GetConfiguration, rows: Rows) -> nix.ConfigurationView:
    """One configuration."""
    return _one(query, query.id, configuration, rows)


@_configurations.answers
def list_configurations(query: nix.ListConfigurations, rows: Rows) -> Listed[nix.ConfigurationView]:
    """Configurations by name."""
    statement = select(configuration).where(
        equals(configuration.c.name, query.name),
        begins(configuration.c.name, query.name_prefix),
        has_element(configuration.c.modules, query.module),
        has_element(configuration.c.overlays, query.overlay),
        given(configuration.c.activated_at, query.activated),
    )
    return rows.page(query, statement, by=(configuration.c.name, configuration.c.id))


@_configurations.answers
def get_current(query: nix.GetCurrentConfiguration, rows: Rows) -> nix.GenerationView:
    """The current generation."""
    _require(rows, configuration, query.id, "config")
    since = configuration.c.activated_at.label("current_since")
    generation = configuration_generation.c
    statement = select(
        configuration.c.id, configuration.c.name, since, configuration_generation
    ).where(
        configuration.c.id == query.id,
        generation.configuration_id == query.id,
        generation.generation == configuration.c.current_generation,
    )
    return rows.one(query, statement, f"current generation of config {query.id}: never activated")


@_configurations.answers
def get_history(query: nix.GetConfigurationHistory, rows: Rows) -> Listed[nix.ChangeView]:
    """Every event of one configuration."""
    _require(rows, configuration, query.id, "config")
    changes = configuration_change
    statement = select(changes).where(changes.c.configuration_id == query.id)
    return rows.page(query, statement, by=(changes.c.version,))


def _one(query: Query[A], id_: str, table: Table, rows: Rows) -> A:
    kind = "config" if table is configuration else table.name
    return rows.one(query, _with_id(table), f"{kind} {id_}", {"id": id_})


def _require(rows: Rows, table: Table, id_: str, kind: str) -> None:
    if rows.first(_with_id(table), {"id": id_}) is None:
        raise QueryNotFound(f"there is no {kind} {id_}")


@cache
def _with_id(table: Table) -> Select[tuple[object, ...]]:
    """Built once, for the same statement is executed in a third of the time of a new one."""
    return select(table).where(table.c.id == bindparam("id"))


def _sources(table: Table, query: nix.ListModules | nix.ListOverlays) -> Select[tuple[object, ...]]:
    contentless = [column for column in table.c if column is not table.c.content]
    return select(*contentless).where(
        equals(table.c.name, query.name),
        begins(table.c.name, query.name_prefix),
        true() if query.deleted is None else table.c.deleted.is_(query.deleted),
    )


def _has_input(name: str | None, url: str | None) -> ColumnElement[bool]:
    """The flake has an input with this name and this url; None matches any."""
    if name is None and url is None:
        return true()
    return exists().where(
        flake_input.c.flake_id == flake.c.id,
        equals(flake_input.c.name, name),
        equals(flake_input.c.url, url),
    )
