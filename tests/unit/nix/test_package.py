from __future__ import annotations

import pytest

from eventstore.nix.package import (
    DEFAULT_OUTPUT_PATH,
    BuildPackage,
    CachePackage,
    Package,
    PackageBuilt,
    PackageCached,
    package,
)
from eventstore.testing import scenario

BUILT = PackageBuilt(flake_ref="github:a/b", attribute="hello", output_path="out")


def test_a_package_is_built_into_the_path_it_is_told() -> None:
    command = BuildPackage(flake_ref="github:a/b", attribute="hello", output_path="out")

    scenario(package).when(command).then(BUILT)
    scenario(package).when(command).then_state(
        Package(built=True, flake_ref="github:a/b", attribute="hello", output_path="out")
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
