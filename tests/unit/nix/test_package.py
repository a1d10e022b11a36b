from __future__ import annotations

import pytest

from eventstore.nix.package import (
    DEFAULT_OUTPUT_PATH,
    BuildPackage,
    CachePackage,
    MarkPackageStale,
    Package,
    PackageBuilt,
    PackageCached,
    PackageMarkedStale,
    package,
)
from eventstore.testing import scenario

BUILT = PackageBuilt(flake_ref="github:a/b", attribute="hello", output_path="out")


def test_a_package_is_built_into_the_path_it_is_told() -> None:
    command = BuildPackage(flake_ref="github:a/b", attribute="hello", output_path="out")

    scenario(package).when(command).then(BUILT)
    scenario(package).when(command).then_state(
        Package(built=True, builds=1, flake_ref="github:a/b", attribute="hello", output_path="out")
    )


def test_without_a_path_the_output_is_where_nix_build_links_it() -> None:
    scenario(package).when(BuildPackage(flake_ref="github:a/b", attribute="hello")).then(
        PackageBuilt(flake_ref="github:a/b", attribute="hello", output_path=DEFAULT_OUTPUT_PATH)
    )


def test_nobody_reports_a_build_time() -> None:
    outcome = scenario(package).when(BuildPackage(flake_ref="github:a/b", attribute="hello"))

    assert [event.build_time_ms for event in outcome.events] == [None]  # type: ignore[attr-defined]


def test_a_recorded_build_time_is_read() -> None:
    timed = PackageBuilt(flake_ref="f", attribute="a", output_path="out", build_time_ms=1500)

    assert scenario(package).given(timed).state.built


def test_a_package_can_be_built_again() -> None:
    scenario(package).given(BUILT).when(
        BuildPackage(flake_ref="github:a/b", attribute="hello", output_path="out")
    ).then(BUILT)


@pytest.mark.parametrize(
    "command",
    [
        BuildPackage(flake_ref="", attribute="hello"),
        BuildPackage(flake_ref="github:a/b", attribute=" "),
        BuildPackage(flake_ref="github:a/b", attribute="hello", output_path=""),
    ],
)
def test_a_build_needs_all_it_names(command: BuildPackage) -> None:
    scenario(package).when(command).then_rejected("invalid")


def test_a_build_is_cached() -> None:
    outcome = scenario(package).given(BUILT).when(CachePackage(cache_url="s3://cache"))

    outcome.then(PackageCached(cache_url="s3://cache", output_path="out"))
    assert outcome.state.cache_url == "s3://cache"


def test_caching_again_is_recorded_again() -> None:
    cached = PackageCached(cache_url="s3://cache", output_path="out")

    scenario(package).given(BUILT, cached).when(CachePackage(cache_url="s3://cache")).then(cached)


def test_a_new_build_is_in_no_cache() -> None:
    cached = PackageCached(cache_url="s3://cache", output_path="out")

    assert scenario(package).given(BUILT, cached, BUILT).state.cache_url is None


def test_what_was_never_built_cannot_be_cached() -> None:
    scenario(package).when(CachePackage(cache_url="s3://cache")).then_rejected("not_built")
    scenario(package).when(CachePackage(cache_url="")).then_rejected("not_built")


def test_a_cache_needs_a_url() -> None:
    scenario(package).given(BUILT).when(CachePackage(cache_url=" ")).then_rejected("invalid")


STALE = PackageMarkedStale(reason="an input changed", inputs=["nixpkgs"])
MARK = MarkPackageStale(reason="an input changed", inputs=["nixpkgs"])


def test_a_build_becomes_stale() -> None:
    outcome = scenario(package).given(BUILT).when(MARK)

    outcome.then(STALE)
    assert outcome.state.stale


def test_the_reason_is_enough() -> None:
    scenario(package).given(BUILT).when(MarkPackageStale(reason="r")).then(
        PackageMarkedStale(reason="r", inputs=[])
    )


def test_what_is_stale_does_not_become_so_again() -> None:
    scenario(package).given(BUILT, STALE).when(MARK).then()


def test_building_again_makes_a_package_fresh_and_it_can_become_stale_again() -> None:
    assert not scenario(package).given(BUILT, STALE, BUILT).state.stale
    scenario(package).given(BUILT, STALE, BUILT).when(MARK).then(STALE)


def test_a_build_that_has_been_replaced_is_not_what_becomes_stale() -> None:
    first = MarkPackageStale(reason="an input changed", inputs=["nixpkgs"], build=1)

    scenario(package).given(BUILT).when(first).then(STALE)
    scenario(package).given(BUILT, BUILT).when(first).then()


def test_what_was_never_built_cannot_be_stale() -> None:
    scenario(package).when(MARK).then_rejected("not_built")


def test_staleness_has_a_reason() -> None:
    scenario(package).given(BUILT).when(MarkPackageStale(reason=" ")).then_rejected("invalid")


def test_a_stale_package_can_be_cached_and_stays_stale() -> None:
    outcome = scenario(package).given(BUILT, STALE).when(CachePackage(cache_url="s3://cache"))

    assert outcome.state.stale
