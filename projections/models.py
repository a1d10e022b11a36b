"""The tables of the Nix read models.

Each row has the aggregate's version and the log position of the last event that changed it.
Indexes begin with what lists are filtered and sorted by, and end with the id, which breaks ties.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    false,
)

from eventstore.projections.database import NAMING_CONVENTION, UtcDateTime

metadata = MetaData(naming_convention=NAMING_CONVENTION)
"""The tables of the Nix domain; `migrations/` creates exactly these."""


def _id() -> Column[str]:
    return Column("id", String(128), primary_key=True)


def _owner(name: str, table: Table) -> Column[str]:
    return Column(name, String(128), ForeignKey(table.c.id), primary_key=True)


def _last_event() -> list[Column[int]]:
    return [
        Column("version", BigInteger, nullable=False),
        Column("position", BigInteger, nullable=False),
    ]


def _times() -> list[Column[datetime]]:
    return [
        Column("created_at", UtcDateTime, nullable=False),
        Column("updated_at", UtcDateTime, nullable=False),
    ]


flake = Table(
    "flake",
    metadata,
    _id(),
    Column("path", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("template", Text),
    *_last_event(),
    *_times(),
    Index(None, "path", "id"),
)

flake_input = Table(
    "flake_input",
    metadata,
    _owner("flake_id", flake),
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    *_last_event(),
    *_times(),
)
"""The inputs that a flake has now; `updated_at` is when one was added or its lock was updated."""

input_user = Table(
    "input_user",
    metadata,
    Column("flake_id", String(128), primary_key=True),
    Column("path", Text, nullable=False),
)
"""The flakes that may use inputs."""

input_use = Table(
    "input_use",
    metadata,
    Column("flake_id", String(128), ForeignKey(input_user.c.flake_id), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("url", Text, nullable=False),
    Column("path", Text, nullable=False),
    *_last_event(),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "name", "url", "flake_id"),
)
"""Which flake, at which path, uses which input, at which url and since when."""

package = Table(
    "package",
    metadata,
    _id(),
    Column("flake_ref", Text, nullable=False),
    Column("flake", String(128)),
    Column("attribute", Text, nullable=False),
    Column("output_path", Text, nullable=False),
    Column("build_time_ms", BigInteger),
    Column("builds", Integer, nullable=False),
    Column("built_at", UtcDateTime, nullable=False),
    Column("stale", Boolean, nullable=False, server_default=false()),
    Column("stale_reason", Text),
    Column("cache_url", Text),
    Column("cached_at", UtcDateTime),
    *_last_event(),
    *_times(),
    Index(None, "flake_ref", "attribute", "id"),
)
"""Packages and their last builds; `cache_url` is the cache that build was last pushed to, `stale`
means that a rebuild would give another result."""

package_cache = Table(
    "package_cache",
    metadata,
    _owner("package_id", package),
    Column("cache_url", Text, primary_key=True),
    Column("output_path", Text, nullable=False),
    Column("cached_at", UtcDateTime, nullable=False),
    *_last_event(),
)
"""The build of a package that each cache has, perhaps not the last one."""


def _source(name: str) -> Table:
    return Table(
        name,
        metadata,
        _id(),
        Column("name", Text, nullable=False),
        Column("content", Text, nullable=False),
        Column("deleted", Boolean, nullable=False),
        *_last_event(),
        *_times(),
        Index(None, "name", "id"),
    )


module = _source("module")
"""Modules; of a deleted one the row and the name remain, not the content."""

overlay = _source("overlay")
"""Overlays; of a deleted one the row and the name remain, not the content."""

configuration = Table(
    "configuration",
    metadata,
    _id(),
    Column("name", Text, nullable=False),
    Column("modules", JSON, nullable=False),
    Column("overlays", JSON, nullable=False),
    Column("current_generation", Integer, nullable=False),
    Column("last_generation", Integer, nullable=False),
    Column("activated_at", UtcDateTime),
    *_last_event(),
    *_times(),
    Index(None, "name", "id"),
)
"""Configurations; both generations are 0 before the first activation.

`activated_at` is when the current generation became the current one.
"""

configuration_generation = Table(
    "configuration_generation",
    metadata,
    _owner("configuration_id", configuration),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("activation", String(16), nullable=False),
    Column("modules", JSON, nullable=False),
    Column("overlays", JSON, nullable=False),
    Column("activated_at", UtcDateTime, nullable=False),
    *_last_event(),
)
"""The modules and overlays of each generation, as of its activation."""

configuration_change = Table(
    "configuration_change",
    metadata,
    _owner("configuration_id", configuration),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("change", String(128), nullable=False),
    Column("generation", Integer),
    Column("from_generation", Integer),
    Column("activation", String(16)),
    Column("actor", Text),
    Column("event_id", String(36), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)
"""Every event of a configuration, by version: its history."""
