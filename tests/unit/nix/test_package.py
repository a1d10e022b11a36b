from __future__ import annotations

from typing import Any

import msgspec
import pytest

from eventstore.nix import domain
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


def test_a_package_is_built_to_the_given_path() -> None:
    command = BuildPackage(flake_ref="github:a/b", attribute="hello", output_path="out")

    scenario(package).when(command).then(BUILT)
    scenario(package).when(command).then_state(
        Package(
            *(1, 1, True, 1),
            flake_ref="github:a/b",
            attribute="hello",
            output_path="out",
        )
    )


def test_the_default_output_path_is_the_link_of_nix_build() -> None:
    scenario(package).when(BuildPackage(flake_ref="github:a/b", attribute="hello")).then(
        PackageBuilt(flake_ref="github:a/b", attribute="hello", output_path=DEFAULT_OUTPUT_PATH)
    )


def test_a_build_time_is_recorded() -> None:
    timed = BuildPackage(flake_ref="a:b", attribute="a", output_path="out", build_time_ms=1500)

    scenario(package).when(timed).then(
        PackageBuilt(flake_ref="a:b", attribute="a", output_path="out", build_time_ms=1500)
    )


@pytest.mark.parametrize(
    ("reference", "flake", "named"),
    [
        ("mine", None, "mine"),
        ("flake:mine#hello", None, "mine"),
        ("./mine#hello", None, None),
        ("./mine#hello", "mine", "mine"),
        ("mine?rev=abc", None, None),
    ],
)
def test_a_build_names_its_flake_by_the_reference_or_apart(
    reference: str, flake: str | None, named: str | None
) -> None:
    outcome = scenario(package).when(
        BuildPackage(flake_ref=reference, attribute="hello", flake=flake)
    )

    assert [event.flake for event in outcome.events] == [named]  # type: ignore[attr-defined]


def test_a_build_recorded_without_a_flake_is_read_with_the_one_of_its_reference() -> None:
    codec = domain().codec
    for reference, flake in (("flake:mine#a", "mine"), ("./mine", None)):
        old: dict[str, Any] = {
            "flake_ref": reference,
            "attribute": "a",
            "output_path": "out",
            "build_time_ms": 7,
        }
        read = codec.decode_event("PackageBuilt", 1, msgspec.json.encode(old))

        assert read == [PackageBuilt(**old, flake=flake)]


def test_a_package_can_be_rebuilt() -> None:
    scenario(package).given(BUILT).when(
        BuildPackage(flake_ref="github:a/b", attribute="hello", output_path="out")
    ).then(BUILT)


@pytest.mark.parametrize(
    "command",
    [
        BuildPackage(flake_ref="", attribute="hello"),
        BuildPackage(flake_ref="github:a/b", attribute=" "),
        BuildPackage(flake_ref="github:a/b", attribute="hello", output_path=""),
        BuildPackage(flake_ref="github:a/b", attribute="hello", build_time_ms=-1),
        BuildPackage(flake_ref="github:a/b", attribute="hello", flake="./mine"),
        BuildPackage(flake_ref="github:a/b", attribute="hello", flake=""),
    ],
)
def test_the_fields_of_a_build_must_be_possible(command: BuildPackage) -> None:
    scenario(package).when(command).then_rejected("invalid")


def test_a_build_is_cached() -> None:
    outcome = scenario(package).given(BUILT).when(CachePackage(cache_url="s3://cache"))

    outcome.then(PackageCached(cache_url="s3://cache", output_path="out"))
    assert outcome.state.cache_url == "s3://cache"


def test_each_push_to_a_cache_is_recorded() -> None:
    cached = PackageCached(cache_url="s3://cache", output_path="out")

    scenario(package).given(BUILT, cached).when(CachePackage(cache_url="s3://cache")).then(cached)


def test_a_new_build_is_in_no_cache() -> None:
    cached = PackageCached(cache_url="s3://cache", output_path="out")

    assert scenario(package).given(BUILT, cached, BUILT).state.cache_url is None


def test_a_package_that_was_never_built_cannot_be_cached() -> None:
    scenario(package).when(CachePackage(cache_url="s3://cache")).then_rejected("not_built")
    scenario(package).when(CachePackage(cache_url="")).then_rejected("not_built")


def test_a_cache_needs_a_url() -> None:
    scenario(package).given(BUILT).when(CachePackage(cache_url=" ")).then_rejected("invalid")


STALE = PackageMarkedStale(reason="an input changed", inputs=["nixpkgs"])
MARK = MarkPackageStale(reason="an input changed", inputs=["nixpkgs"])


def test_a_build_is_marked_stale() -> None:
    outcome = scenario(package).given(BUILT).when(MARK)

    outcome.then(STALE)
    assert outcome.state.stale


def test_only_the_reason_is_required() -> None:
    scenario(package).given(BUILT).when(MarkPackageStale(reason="r")).then(
        PackageMarkedStale(reason="r", inputs=[])
    )


def test_marking_a_stale_package_again_yields_no_event() -> None:
    scenario(package).given(BUILT, STALE).when(MARK).then()


def test_a_rebuilt_package_is_no_longer_stale_and_can_be_marked_again() -> None:
    assert not scenario(package).given(BUILT, STALE, BUILT).state.stale
    scenario(package).given(BUILT, STALE, BUILT).when(MARK).then(STALE)


def test_a_replaced_build_is_not_marked_stale() -> None:
    first = MarkPackageStale(reason="an input changed", inputs=["nixpkgs"], build=1)

    scenario(package).given(BUILT).when(first).then(STALE)
    scenario(package).given(BUILT, BUILT).when(first).then()


def test_a_build_is_named_by_the_version_of_the_package_as_well() -> None:
    cached = PackageCached(cache_url="s3://cache", output_path="out")
    second = MarkPackageStale(reason="an input changed", inputs=["nixpkgs"], version=3)

    scenario(package).given(BUILT, cached, BUILT, cached).when(second).then(STALE)
    scenario(package).given(BUILT, cached, BUILT, STALE, BUILT).when(second).then()


def test_a_package_that_was_never_built_cannot_be_stale() -> None:
    scenario(package).when(MARK).then_rejected("not_built")


def test_a_reason_is_required() -> None:
    scenario(package).given(BUILT).when(MarkPackageStale(reason=" ")).then_rejected("invalid")


def test_a_stale_package_remains_stale_when_cached() -> None:
    outcome = scenario(package).given(BUILT, STALE).when(CachePackage(cache_url="s3://cache"))

    assert outcome.state.stale
