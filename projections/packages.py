"""The read model of packages and of the caches they were pushed to."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, update

from eventstore import RecordedEvent
from eventstore.nix import PackageBuilt, PackageCached, PackageMarkedStale
from eventstore.projections import BoundStatement, Projection
from projections.models import package, package_cache
from projections.rows import changed, created, last_event

packages = Projection("packages", version=3, tables=[package, package_cache])

_count_build = (
    update(package)
    .where(package.c.id == bindparam("aggregate_id"))
    .values(builds=package.c.builds + 1)
)
_cache = insert(package_cache)
_evict = delete(package_cache).where(
    package_cache.c.package_id == bindparam("aggregate_id"),
    package_cache.c.cache_url == bindparam("cache"),
)


@packages.handles
def package_built(
    event: PackageBuilt, recorded: RecordedEvent
) -> BoundStatement | list[BoundStatement]:
    """The first build creates the package; a later one replaces it, and is in no cache yet."""
    build = {
        "flake_ref": event.flake_ref,
        "flake": event.flake,
        "attribute": event.attribute,
        "output_path": event.output_path,
        "build_time_ms": event.build_time_ms,
        "built_at": recorded.time,
        "stale": False,
        "stale_reason": None,
    }
    if recorded.version == 1:
        return created(package, recorded, builds=1, **build)
    counted = BoundStatement(_count_build, {"aggregate_id": recorded.aggregate_id})
    return [counted, changed(package, recorded, cache_url=None, cached_at=None, **build)]


@packages.handles
def package_cached(event: PackageCached, recorded: RecordedEvent) -> list[BoundStatement]:
    """The cache has this build, which replaces the one it had before."""
    evicted = {"aggregate_id": recorded.aggregate_id, "cache": event.cache_url}
    row = {
        "package_id": recorded.aggregate_id,
        "cache_url": event.cache_url,
        "output_path": event.output_path,
        "cached_at": recorded.time,
    }
    return [
        changed(package, recorded, cache_url=event.cache_url, cached_at=recorded.time),
        BoundStatement(_evict, evicted),
        BoundStatement(_cache, row | last_event(recorded)),
    ]


@packages.handles
def package_marked_stale(event: PackageMarkedStale, recorded: RecordedEvent) -> BoundStatement:
    """Stale until it is rebuilt."""
    return changed(package, recorded, stale=True, stale_reason=event.reason)
