"""What a user installs: the wheel has all that the library needs at run time, and works alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from ops.package_links import web_address
from tests.compat.environments import DEVELOPERS, claimed

ROOT = Path(__file__).parents[2]
GIT = shutil.which("git")

MIGRATE = """
import asyncio, sqlite3, sys
import eventstore, projections
from eventstore.projections.database.database import Database
from eventstore.projections.database.library import LIBRARY

async def main():
    of = projections.nix_migrations()
    async with Database("rows.sqlite", migrations=of) as database:
        await database.migrate()
        await database.check_schema()

asyncio.run(main())
scripts = (LIBRARY.scripts, projections.nix_migrations().scripts)
for thing in (eventstore.__file__, projections.__file__, *scripts):
    assert str(thing).startswith(sys.argv[1]), thing
tables = sqlite3.connect("rows.sqlite").execute("SELECT name FROM sqlite_master")
print(sorted(name for name, in tables if name in ("flake", "eventstore_projection")))
"""


def build(kind: str, directory: Path, root: Path = ROOT) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", directory],
        cwd=root,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (built,) = directory.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)  # noqa: S202  # it was built a moment ago
    return directory


def alone(unpacked: Path, folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder far from the sources, with nothing of ours but the wheel."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env={**_unmeasured(), "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def _unmeasured() -> dict[str, str]:
    """The environment; the copy in the wheel does not count as covered or not."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}


def relative(paths: Sequence[Path]) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in paths if "__pycache__" not in path.parts}


def test_the_wheel_has_every_module_and_file_of_both_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    files = [
        path
        for package in ("eventstore", "projections")
        for path in (ROOT / package).rglob("*")
        if path.is_file()
    ]
    assert relative(files) <= names
    assert {"eventstore/py.typed", "projections/py.typed"} <= names
    assert len([name for name in names if name.startswith("eventstore/nix/samples/")]) >= 3
    migrations = relative([path for path in (ROOT / "migrations").rglob("*") if path.is_file()])
    assert {f"projections/{name}" for name in migrations} <= names
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"eventstore", "projections"}
    assert not [name for name in names if name.endswith(".pyc")]


@pytest.fixture(scope="module")
def distribution(unpacked: Path) -> Distribution:
    (info,) = unpacked.glob("*.dist-info")
    return Distribution.at(info)


def test_the_metadata_says_what_a_user_looks_for(distribution: Distribution) -> None:
    metadata = distribution.metadata

    assert metadata["Summary"].startswith("An event store on NATS JetStream")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# jetstream-eventstore" in str(metadata), "the README is what an index shows"
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert "event sourcing" in metadata["Keywords"].split(",")
    assert any(each.startswith("nats-py[nkeys]") for each in metadata.get_all("Requires-Dist", []))
    assert [str(path) for path in distribution.files or () if path.match("licenses/LICENSE")]


def test_the_classifiers_exist_and_name_the_pythons_that_are_tested(
    distribution: Distribution,
) -> None:
    classifiers = distribution.metadata.get_all("Classifier", [])

    known = pytest.importorskip("trove_classifiers").classifiers
    assert set(classifiers) <= known
    assert distribution.metadata["Requires-Python"] == f">={claimed()[0]}"
    named = {f"Programming Language :: Python :: {version}" for version in claimed()}
    assert named | {"Typing :: Typed", "Framework :: AsyncIO"} <= set(classifiers)


def test_the_entry_points_are_the_command_and_the_plugin_of_pytest(
    distribution: Distribution,
) -> None:
    names = {(each.group, each.name, each.value) for each in distribution.entry_points}

    assert names == {
        ("console_scripts", "eventstore", "eventstore.cli:main"),
        ("pytest11", "eventstore", "eventstore.pytest_plugin"),
    }


def test_each_extra_for_users_is_described(distribution: Distribution) -> None:
    extras = set(distribution.metadata.get_all("Provides-Extra", [])) - set(DEVELOPERS)
    page = (ROOT / "docs" / "how-to" / "start-a-project.md").read_text(encoding="utf-8")

    assert extras == set(
        re.findall(r"^\| `(\w+)` \|", page.partition("## Extras")[2], re.MULTILINE)
    )


def test_the_wheel_alone_can_migrate_a_new_database(unpacked: Path, tmp_path: Path) -> None:
    ended = alone(unpacked, tmp_path, "-c", MIGRATE, unpacked)

    assert (ended.stderr, ended.stdout) == ("", "['eventstore_projection', 'flake']\n")


def test_the_version_is_that_of_the_package(unpacked: Path, tmp_path: Path, wheel: Path) -> None:
    ended = alone(unpacked, tmp_path, "-m", "eventstore", "--version")

    assert ended.returncode == 0
    assert ended.stdout == f"eventstore {wheel.name.split('-')[1]}\n"


def test_from_the_source_archive_the_same_can_be_built(tmp_path: Path) -> None:
    archive = build("sdist", tmp_path / "sdist")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}

    assert {"pyproject.toml", "README.md", "SECURITY.md", "LICENSE", "CHANGELOG.md"} <= names
    assert {"eventstore/cli/app.py", "projections/flakes.py", "migrations/env.py"} <= names
    assert {"tests/conftest.py", "Makefile"} <= names
    hidden = {name for name in names if name.startswith((".venv", ".hypothesis", "var/"))}
    assert hidden == set()


@pytest.mark.skipif(GIT is None, reason="git is not installed")
def test_built_in_a_clone_the_package_names_the_repository(tmp_path: Path) -> None:
    with tarfile.open(build("sdist", tmp_path / "sdist")) as opened:
        opened.extractall(tmp_path)  # noqa: S202  # it was built a moment ago
    (root,) = tmp_path.glob("*/PKG-INFO")
    root.unlink()
    for words in ("init -q", "remote add origin https://ann:secret@forge.example/team/store.git"):
        subprocess.run([str(GIT), *words.split()], cwd=root.parent, check=True)

    with zipfile.ZipFile(build("wheel", tmp_path / "wheel", root.parent)) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(name))

    assert metadata.get_all("Project-URL") == [
        "Source, https://forge.example/team/store",
        "Documentation, https://forge.example/team/store/tree/HEAD/docs",
        "Issues, https://forge.example/team/store/issues",
        "Changelog, https://forge.example/team/store/blob/HEAD/CHANGELOG.md",
    ]
    readme = str(metadata.get_payload())
    assert "](https://forge.example/team/store/blob/HEAD/docs/quickstart.md)" in readme
    assert "](docs/" not in readme


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://forge.example:8443/team/store/", "https://forge.example:8443/team/store"),
        ("git@forge.example:team/store.git", "https://forge.example/team/store"),
        ("ssh://git@forge.example:2222/team/store.git", "https://forge.example/team/store"),
        ("/srv/store", None),
        ("../store.git", None),
        ("file:///srv/store.git", None),
        ("", None),
    ],
)
def test_the_address_is_that_of_a_remote_on_another_host(remote: str, address: str | None) -> None:
    assert web_address(remote) == address
