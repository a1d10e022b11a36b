from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.errors import InvalidLockFile, InvalidMessage
from eventstore.messages.subjects import check_aggregate_id
from eventstore.messages.types import Event
from eventstore.nix import (
    AddFlakeInput,
    CreateFlake,
    LockedInput,
    RemoveFlakeInput,
    change_commands,
    domain,
    import_commands,
    read_lock_file,
    samples,
)
from eventstore.nix.lockfile import MAX_BYTES
from eventstore.testing import scenario

REAL_DIRECTORY = Path(__file__).parents[4] / "shared" / "data" / "flakes"
REAL = sorted(REAL_DIRECTORY.glob("*.lock"))
needs_real = pytest.mark.skipif(not REAL, reason=f"no lock files in {REAL_DIRECTORY}")

REV = "94def634a20494ee057c76998843c015909d6311"
NIXPKGS = {"type": "github", "owner": "NixOS", "repo": "nixpkgs", "rev": REV}


def lock(
    inputs: dict[str, Any], nodes: dict[str, Any] | None = None, *, version: int = 7
) -> dict[str, Any]:
    """The contents of a lock file with the locked node `nixpkgs` and the given nodes."""
    root = {"inputs": inputs}
    every = {"root": root, "nixpkgs": {"locked": NIXPKGS}, **(nodes or {})}
    return {"version": version, "root": "root", "nodes": every}


def written(directory: Path, content: object, name: str = "web_flake.lock") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def problem(path: Path, **options: Any) -> str:
    """The problem of a lock file, which both reading and importing must report."""
    with pytest.raises(InvalidLockFile) as reading:
        read_lock_file(path, **options)
    with pytest.raises(InvalidLockFile) as importing:
        import_commands(path, **options)
    assert str(reading.value) == str(importing.value)
    assert repr(str(path)) in str(reading.value)
    assert reading.value.path == path
    return reading.value.problem


# The files that come with the library, and the real ones


def test_the_samples_are_different_flakes() -> None:
    paths = [read_lock_file(path).flake_path for path in samples()]

    assert len(set(paths)) == len(paths) >= 3


def test_a_sample_is_read() -> None:
    [path] = [path for path in samples() if "cim-domain-nix" in path.name]
    lock_file = read_lock_file(path)

    assert lock_file.flake_path == "TheCowboyAI_cim-domain-nix"
    assert lock_file.inputs == [
        LockedInput(
            "flake-utils", "github:numtide/flake-utils/11707dc2f618dd54ca8739b309ec4fc024de578b"
        ),
        LockedInput("nixpkgs", f"github:NixOS/nixpkgs/{REV}"),
        LockedInput(
            "rust-overlay", "github:oxalica/rust-overlay/08ff39bf869cadca3102b39824f4c7025186b7dc"
        ),
    ]


def imports_completely(path: Path) -> None:
    imported = import_commands(path)
    content = json.loads(path.read_text())
    history: list[Event] = []
    for each in imported:
        outcome = scenario(domain().decider("flake")).given(*history).when(each.command)
        assert len(outcome.events) == 1
        history.extend(outcome.events)

    assert len({each.aggregate_id for each in imported}) == 1
    assert len({each.command_id for each in imported}) == len(imported)
    assert list(outcome.state.inputs) == list(content["nodes"][content["root"]]["inputs"])
    assert all(each.command_id == str(uuid.UUID(each.command_id)) for each in imported)
    check_aggregate_id(imported[0].aggregate_id)


@pytest.mark.parametrize("path", samples(), ids=lambda path: path.name)
def test_every_sample_is_imported_completely(path: Path) -> None:
    imports_completely(path)


@needs_real
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_every_real_lock_file_is_imported_completely(path: Path) -> None:
    imports_completely(path)


@needs_real
def test_the_real_lock_files_are_different_flakes() -> None:
    assert len({import_commands(path)[0].aggregate_id for path in REAL}) == len(REAL)


# The commands of an import


def test_an_import_creates_the_flake_and_adds_its_inputs_in_order(tmp_path: Path) -> None:
    content = lock({"z": "nixpkgs", "a": "nixpkgs"})
    imported = import_commands(written(tmp_path, content))

    assert [each.command for each in imported] == [
        CreateFlake(path="web", description="Imported from a lock file"),
        AddFlakeInput(name="z", url=f"github:NixOS/nixpkgs/{REV}"),
        AddFlakeInput(name="a", url=f"github:NixOS/nixpkgs/{REV}"),
    ]


def test_a_flake_without_inputs_is_only_created(tmp_path: Path) -> None:
    content = {"version": 7, "root": "root", "nodes": {"root": {}}}

    assert len(import_commands(written(tmp_path, content))) == 1


def test_importing_again_gives_the_same_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, lock({"nixpkgs": "nixpkgs"}))
    once = import_commands(path)
    elsewhere = written(tmp_path / "other", lock({"nixpkgs": "nixpkgs"}), "web-flake.lock")
    monkeypatch.chdir(tmp_path)

    assert import_commands(str(path)) == import_commands("web_flake.lock") == once
    assert import_commands(elsewhere) == once


def test_ids_are_stable() -> None:
    [path] = [path for path in samples() if "disintegrate" in path.name]

    assert [(each.aggregate_id, each.command_id) for each in import_commands(path)] == [
        ("e4139051-9231-559a-84e0-25bee2463c36", "303f82db-894a-57ab-b747-46eecffeaefd"),
        ("e4139051-9231-559a-84e0-25bee2463c36", "c5d94cf2-1940-54fb-b9df-2f5c6f15ed11"),
        ("e4139051-9231-559a-84e0-25bee2463c36", "8a661b8a-8627-57b8-9022-c451d1faaa85"),
    ]


def left(path: Path, known: dict[str, str], version: int = 5) -> list[Any]:
    return [each.command for each in change_commands(import_commands(path), known, version)]


PINNED = f"github:NixOS/nixpkgs/{REV}"


def test_of_an_existing_flake_only_differences_are_imported(tmp_path: Path) -> None:
    path = written(tmp_path, lock({"same": "nixpkgs", "moved": "nixpkgs", "new": "nixpkgs"}))

    assert left(path, {"moved": "old", "gone": "x", "same": PINNED}) == [
        RemoveFlakeInput(name="gone"),
        RemoveFlakeInput(name="moved"),
        AddFlakeInput(name="moved", url=PINNED),
        AddFlakeInput(name="new", url=PINNED),
    ]
    assert left(path, dict.fromkeys(("same", "moved", "new"), PINNED)) == []


def test_a_flake_at_version_1_is_imported_with_the_ids_of_its_import(tmp_path: Path) -> None:
    imported = import_commands(written(tmp_path, lock({"a": "nixpkgs", "b": "nixpkgs"})))

    assert change_commands(imported, {}, 1) == imported[1:]


def test_adding_a_removed_input_again_is_a_new_command(tmp_path: Path) -> None:
    with_a = import_commands(written(tmp_path, lock({"a": "nixpkgs"})))
    without = import_commands(written(tmp_path, lock({})))
    [added] = change_commands(with_a, {}, 1)
    [removed] = change_commands(without, {"a": PINNED}, 2)
    [again] = change_commands(with_a, {}, 3)
    [removed_again] = change_commands(without, {"a": PINNED}, 4)

    assert again.command == added.command
    assert removed_again.command == removed.command
    every = [added, removed, again, removed_again]
    assert len({each.command_id for each in every}) == 4
    assert change_commands(with_a, {}, 3) == [again], "repeated, it is the same command"


def test_a_changed_file_has_new_ids_only_for_changed_commands(tmp_path: Path) -> None:
    before = import_commands(written(tmp_path, lock({"a": "nixpkgs"})))
    after = import_commands(written(tmp_path, lock({"a": "nixpkgs", "b": "nixpkgs"})))

    assert after[:2] == before
    assert len(after) == 3


def test_the_same_input_of_two_flakes_is_two_commands(tmp_path: Path) -> None:
    path = written(tmp_path, lock({"a": "nixpkgs"}))
    one, other = import_commands(path, name="one"), import_commands(path, name="other")

    assert not {each.aggregate_id for each in one} & {each.aggregate_id for each in other}
    assert not {each.command_id for each in one} & {each.command_id for each in other}


# Whose lock file it is


@pytest.mark.parametrize(
    ("name", "flake"),
    [
        ("web_flake.lock", "web"),
        ("web-flake.lock", "web"),
        ("a_b-c_flake.lock", "a_b-c"),
        ("some/where/flake.lock", "where"),
        ("web.lock", "web"),
        ("_flake.lock", "_flake"),
    ],
)
def test_the_file_name_gives_the_flake(tmp_path: Path, name: str, flake: str) -> None:
    assert read_lock_file(written(tmp_path, lock({}), name)).flake_path == flake


def test_the_directory_is_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "web" / "sub", lock({}), "flake.lock")
    (tmp_path / "link").symlink_to(tmp_path / "web" / "sub")
    monkeypatch.chdir(tmp_path / "web" / "sub")

    assert read_lock_file("flake.lock").flake_path == "sub"
    assert read_lock_file("../sub/flake.lock").flake_path == "sub"
    assert read_lock_file(tmp_path / "link" / "flake.lock").flake_path == "sub"


def test_the_caller_may_name_the_flake(tmp_path: Path) -> None:
    path = written(tmp_path, lock({}))

    assert read_lock_file(path, name="github:me/web").flake_path == "github:me/web"
    assert "name is empty" in problem(path, name=" ")


def test_a_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lock({}))

    assert "not Unicode" in problem(path, name=os.fsdecode(b"web\xff"))


# What inputs lead to


@pytest.mark.parametrize("version", [5, 6, 7])
def test_three_versions_are_read(tmp_path: Path, version: int) -> None:
    content = lock({"nixpkgs": "nixpkgs"}, version=version)

    assert len(read_lock_file(written(tmp_path, content)).inputs) == 1


def test_version_5_has_the_hash_in_another_field(tmp_path: Path) -> None:
    node = {
        "info": {"narHash": "sha256-Yg==", "lastModified": 1},
        "locked": {"type": "tarball", "url": "https://example.org/a.tar.gz"},
    }
    content = lock({"a": "a"}, {"a": node}, version=5)

    [found] = read_lock_file(written(tmp_path, content)).inputs
    assert found.url == "https://example.org/a.tar.gz?narHash=sha256-Yg%3D%3D"


def test_follows_are_resolved_from_the_root(tmp_path: Path) -> None:
    content = lock(
        {"utils": "utils", "deep": ["utils", "pkgs"], "other": ["deep"], "again": ["deep"]},
        {
            "utils": {
                "inputs": {"pkgs": ["utils", "own"], "own": "nixpkgs"},
                "locked": {"type": "path", "path": "/utils"},
            }
        },
    )

    assert {each.name: each.url for each in read_lock_file(written(tmp_path, content)).inputs} == {
        "utils": "path:/utils",
        "deep": f"github:NixOS/nixpkgs/{REV}",
        "other": f"github:NixOS/nixpkgs/{REV}",
        "again": f"github:NixOS/nixpkgs/{REV}",
    }


@pytest.mark.parametrize("version", [5, 6, 7])
def test_an_input_that_follows_the_flake_itself_is_skipped(tmp_path: Path, version: int) -> None:
    """`follows = ""` is the root; other inputs may follow it, and continue from there."""
    content = lock(
        {"me": [], "nested": ["utils", "self"], "pkgs": "nixpkgs", "own": ["me", "pkgs"]},
        {"utils": {"inputs": {"self": []}, "locked": {"type": "path", "path": "/utils"}}},
        version=version,
    )
    content["nodes"]["root"]["inputs"]["utils"] = "utils"

    assert [each.name for each in read_lock_file(written(tmp_path, content)).inputs] == [
        *("pkgs", "own", "utils"),
    ]


def test_the_root_may_have_any_key(tmp_path: Path) -> None:
    content = {
        "version": 7,
        "root": "top",
        "nodes": {"top": {"inputs": {"a": "x"}}, "x": {"locked": NIXPKGS}},
    }

    assert len(read_lock_file(written(tmp_path, content)).inputs) == 1


def test_follows_that_fan_out_are_resolved_in_bounded_time(tmp_path: Path) -> None:
    fan = {f"f{n}": [f"f{n - 1}", *["me"] * 5, f"f{n - 1}"] for n in range(1, 40)}
    node = {"inputs": {"f0": "me", "me": "me", **fan}, "locked": NIXPKGS}
    content = lock({"f0": "me", **fan}, {"me": node})

    assert len(read_lock_file(written(tmp_path, content)).inputs) == 40


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (lock({"a": "nope"}), "node 'nope' is missing"),
        (lock({"a": ["nope"]}), "node 'root' has no input 'nope'"),
        (lock({"a": ["b", "c"], "b": "nixpkgs"}), "node 'nixpkgs' has no input 'c'"),
        (lock({"a": ["a"]}), "follows 'a' leads back to itself"),
        (lock({"a": ["b"], "b": ["c"], "c": ["a"]}), "follows 'b' leads back to itself"),
        (lock({"a": "bare"}, {"bare": {}}), "input 'a' is not locked"),
        (lock({" ": "nixpkgs"}), "an input's name is empty"),
        (
            lock({"a": "x"}, {"x": {"locked": {"type": "github", "owner": "o"}}}),
            "input 'a': attribute 'repo' is missing",
        ),
        ({"version": 7, "root": "top", "nodes": {}}, "node 'top' is missing"),
        ({"version": 8, "anything": []}, "version 8; known are 5, 6, 7"),
        (lock({}, version=4), "version 4"),
    ],
)
def test_an_unresolvable_lock_file_is_refused(
    tmp_path: Path, content: dict[str, Any], expected: str
) -> None:
    assert expected in problem(written(tmp_path, content))


def test_a_long_chain_of_follows_is_refused(tmp_path: Path) -> None:
    chain = {f"i{n}": [f"i{n + 1}"] for n in range(5000)}

    assert "steps away" in problem(written(tmp_path, lock({**chain, "i5000": "nixpkgs"})))


# What is no lock file


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not json",
        "[]",
        "null",
        "7",
        "{}",
        '{"version": "7"}',
        '{"version": 7}',
        '{"version": 7, "root": "root"}',
        '{"version": 7, "root": 1, "nodes": {}}',
        '{"version": 7, "root": "root", "nodes": []}',
        '{"version": 7, "root": "root", "nodes": {"root": 1}}',
        '{"version": 7, "root": "root", "nodes": {"root": {"inputs": ["a"]}}}',
        '{"version": 7, "root": "root", "nodes": {"root": {"inputs": {"a": 1}}}}',
        '{"version": 7, "root": "root", "nodes": {"root": {"locked": {"a": [1]}}}}',
        '{"version": 7, "root": "\\ud800", "nodes": {}}',
        '{"name": "web", "lockfileVersion": 3, "packages": {}}',
        "[" * 100_000,
        '{"x": ' + "[" * 100_000 + "]" * 100_000 + ', "version": 7}',
    ],
    ids=lambda content: content[:40],
)
def test_a_file_of_another_schema_is_refused(tmp_path: Path, content: str) -> None:
    assert "it is not a lock file" in problem(written(tmp_path, content))


def test_invalid_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "web_flake.lock"
    path.write_bytes(b'{"version": 7, "root": "\xff"}')

    assert "it is not a lock file" in problem(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    content = json.dumps(lock({"a": "nixpkgs"}))
    for end in range(0, len(content), 7):
        problem(written(tmp_path, content[:end]))


def test_a_file_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lock({}))
    with path.open("ab") as file:
        file.truncate(MAX_BYTES + 1)

    assert "16,777,216" in problem(path)


def test_a_path_that_is_not_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.lock")

    assert "not a regular file" in problem(tmp_path)
    assert "not a regular file" in problem(tmp_path / "pipe.lock")
    assert "cannot be read" in problem(tmp_path / "missing.lock")
    assert "cannot be read" in problem(tmp_path / "nul\0.lock")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be read" in problem(tmp_path / "loop" / "flake.lock")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, lock({}))
    path.chmod(0)

    assert "cannot be read" in problem(path)


def test_the_error_is_an_invalid_message() -> None:
    assert issubclass(InvalidLockFile, InvalidMessage)
    assert InvalidLockFile.code == "invalid_lock_file"
    assert not InvalidLockFile.retryable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)
NAMES = st.sampled_from(["root", "a", "b", "c", ""])
NODE = st.fixed_dictionaries(
    {},
    optional={
        "inputs": st.dictionaries(NAMES, NAMES | st.lists(NAMES, max_size=3), max_size=4),
        "locked": st.just(NIXPKGS) | st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    },
)
LOCK = st.fixed_dictionaries(
    {
        "version": st.just(7),
        "root": NAMES,
        "nodes": st.dictionaries(NAMES, NODE, max_size=5),
    }
)


@given(content=JSON | LOCK)
@settings(deadline=None, max_examples=100)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_flake.lock"
    path.write_text(json.dumps(content))
    try:
        found = read_lock_file(path)
    except InvalidLockFile:
        return
    assert all(each.name and each.url for each in found.inputs)
