"""What the program writes is for its user alone; no secret is printed, or in a command line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eventstore.config.private_files import ensure_private_directory, ensure_private_file
from eventstore.nix import samples
from eventstore.projections.database.database import Database
from tests.integration.command_line import CommandLine


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def for_others(directory: Path) -> dict[str, str]:
    """What others than the user may do something with, and its mode."""
    every = {path: path.lstat().st_mode for path in directory.rglob("*")}
    return {str(path): oct(mode) for path, mode in every.items() if stat.S_IMODE(mode) & 0o077}


def test_all_that_a_service_and_its_commands_write_is_for_this_user(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    with umask(0), cli.serving() as service:
        for words in (
            ("nix", "import", samples()[0]),
            ("export", "log.gz"),
            ("copy", "log.gz", "copied.gz", "--as", "other"),
            ("audit", "export", "--output", "events.csv"),
            ("projection", "rebuild", "flakes"),
            ("keys", "new", "--output", "new.keys"),
        ):
            ended = cli.call(*words)
            assert ended.status == 0, (words, ended)
        assert {path.name for path in (tmp_path / "var").glob("read_model.sqlite*")} >= {
            "read_model.sqlite",
            "read_model.sqlite-wal",
            "read_model.sqlite-shm",
            "read_model.sqlite.locks",
        }
        assert for_others(tmp_path) == {}
        assert service.stopped().status == 0
    assert for_others(tmp_path) == {}


def test_no_secret_is_printed_or_in_a_command_line(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path)
    with cli.start("serve", forked=False) as service:
        output = [service.line()]
        assert cli.call("nix", "import", samples()[0]).status == 0
        secrets = [
            (cli.server_directory / "token").read_text(),
            (cli.server_directory / "master.keys").read_text().partition(":")[2].strip(),
        ]
        for words in (
            ("events", "--json"),
            ("health", "--json"),
            ("discover", "--json", "--count", "1"),
            ("config", "get"),
            ("keys", "status", "--json"),
            ("parked", "list", "--json"),
            ("audit", "verify", "--json"),
            ("serve",),  # which says what runs there already
            ("demo",),
        ):
            ended = cli.call(*words)
            assert ended.status in (0, 2), (words, ended)
            output += [ended.out, ended.err]
        output += command_lines()
        output.append((cli.server_directory / "nats-server.log").read_text())
        output += service.stopped()[1:]
    assert "nats://***@127.0.0.1:" in output[0]
    assert [text for text in output for secret in secrets if secret in text] == []


def command_lines() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield os.fsdecode((process / "cmdline").read_bytes())


def test_what_is_there_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o644)
    tmp_path.chmod(0o755)
    ensure_private_file(file)
    ensure_private_directory(tmp_path)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, tmp_path)] == [0o644, 0o755]


def test_directories_above_are_for_this_user_too(tmp_path: Path) -> None:
    with umask(0):
        ensure_private_directory(tmp_path / "a" / "b" / "c")
        ensure_private_file(tmp_path / "a" / "file")
    assert for_others(tmp_path) == {}
    with pytest.raises(FileExistsError):
        ensure_private_directory(tmp_path / "a" / "file")


@pytest.mark.parametrize("mask", [0o022, 0o000])
async def test_a_read_model_of_any_program_is_for_its_user(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        async with Database(tmp_path / "a" / "rows.sqlite") as database:
            await database.migrate()
            assert for_others(tmp_path) == {}
