"""`eventstore export`, `import` and `copy`: the Nix domain moves to another server."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from eventstore.client.client import Client, connect
from eventstore.config import load_settings
from eventstore.errors import JetStreamError
from eventstore.jetstream.topology import declare, topology
from eventstore.nix import FlakeInputAdded, domain
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.store import EventStore
from tests.integration.command_line import BOUND, CommandLine, ProcessResult
from tests.integration.transferring import events, lines

TABLES = ("flake", "flake_input", "package", "module", "overlay", "configuration")


class Side:
    """The domain on one of the servers, with a folder to work in."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        folder.mkdir()
        (folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{name}"\nurl = "{url}"\n')
        self.folder = folder
        self.cli = CommandLine(folder, EVENTSTORE_CONFIG="own.toml")
        self.codec = domain(name).codec
        self._settings = load_settings(folder / "own.toml", environ={})

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.folder / "var" / "read_model.sqlite")) as database:
            return sorted(database.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608

    def work(self, work: Callable[[Client], Any]) -> Any:
        async def run() -> Any:
            async with connect(self._settings) as client:
                return await work(client)

        return asyncio.run(run())

    def fill(self, batches: int) -> None:
        """Events of many flakes, in batches of 1,000."""

        async def work(client: Client) -> None:
            await declare(client, topology(self.codec.subjects, self._settings.streams)[:1])
            async with EventStore(client, self.codec) as store:
                for number in range(batches):
                    added = [FlakeInputAdded(name=f"n{each}", url="u") for each in range(1_000)]
                    await store.append("flake", f"f{number}", added)

        self.work(work)

    def until_position(self, position: int) -> int:
        """Wait until the log has reached the position; returns its end."""

        async def work(client: Client) -> int:
            async with asyncio.timeout(BOUND):
                last = await self._last(client)
                while last < position:  # the server tells only when asked
                    await asyncio.sleep(0.005)
                    last = await self._last(client)
            return last

        last: int = self.work(work)
        return last

    def last_position(self) -> int:
        return self.until_position(0)

    async def _last(self, client: Client) -> int:
        try:
            info = await client.api(f"STREAM.INFO.{self.codec.subjects.log_stream}")
        except JetStreamError:
            return -1  # it does not exist yet
        return int(info["state"]["last_seq"])


@pytest.fixture
def here(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> Side:
    return Side(tmp_path / "here", nats_server.url, domain_name)


@pytest.fixture
def there(tmp_path: Path, other_server: EmbeddedServer, domain_name: str) -> Side:
    return Side(tmp_path / "there", other_server.url, domain_name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.gz"


def test_a_moved_store_has_the_same_rows_in_rebuilt_read_models(
    here: Side, there: Side, file: Path
) -> None:
    assert here.cli.call("demo").status == 0
    exported = here.cli.call("export", file)
    imported = there.cli.call("import", file)
    assert (exported.status, imported.status) == (0, 0), imported.err
    count = here.last_position()
    assert exported.lines[0].startswith(f"{count} events written to {file} in ")
    assert imported.lines[0].startswith(f"{count} events imported from {file} in ")
    assert max(map(len, (exported.err + imported.err).splitlines())) <= 80

    verified = there.cli.call("audit", "verify")
    assert verified.status == 0
    assert verified.out.startswith(f"{count} events of ")
    assert there.cli.call("events", "--json").status == 0
    # The same commands again: they find their events, change nothing, and the rows are built.
    assert there.cli.call("demo").status == 0
    assert there.last_position() == count
    assert len(here.rows("flake")) == 3
    for table in TABLES:
        assert there.rows(table) == here.rows(table)

    again = there.folder / "again.gz"
    assert there.cli.call("export", again).status == 0
    assert events(again) == events(file)


def test_an_anchor_holds_after_a_move(here: Side, there: Side, file: Path) -> None:
    here.fill(1)
    anchor = here.folder / "anchor.json"
    anchor.write_text(here.cli.call("audit", "anchor").out)
    assert here.cli.call("export", file).status == 0
    assert there.cli.call("import", file).status == 0
    ended = there.cli.call("audit", "verify", "--anchor", anchor)
    assert (ended.status, ended.out.count("are those of the anchor")) == (0, 1)


def test_an_interrupted_export_can_be_continued(here: Side, file: Path) -> None:
    here.fill(8)
    part = file.with_name("log.gz.part")

    def interrupted(number: int, larger_than: int, *words: str) -> ProcessResult:
        with here.cli.start("export", file, *words) as running:
            _until(lambda: part.exists() and part.stat().st_size > larger_than)
            return running.stopped(number)

    assert interrupted(signal.SIGKILL, 2_000).status == -signal.SIGKILL
    assert (part.exists(), file.exists()) == (True, False)
    refused = here.cli.call("export", file)
    assert (refused.status, refused.out) == (2, "")
    assert "resume it with `export --continue`, or remove it" in refused.err

    stopped = interrupted(signal.SIGINT, part.stat().st_size, "--continue")
    assert (stopped.status, stopped.out, "Traceback" in stopped.err) == (130, "", False)
    assert "what was written is kept: `" in stopped.err
    assert f" export {file} --continue` continues it" in stopped.err
    assert (part.exists(), file.exists()) == (True, False)

    assert here.cli.call("export", file, "--continue").status == 0
    assert [event["position"] for event in events(file)] == list(range(1, 8_001))


def test_an_interrupted_import_can_be_continued(here: Side, there: Side, file: Path) -> None:
    here.fill(8)
    assert here.cli.call("export", file).status == 0
    with there.cli.start("import", file) as running:
        there.until_position(1)
        assert running.stopped(signal.SIGKILL).status == -signal.SIGKILL
    assert 1_000 <= there.last_position() < 8_000
    refused = there.cli.call("import", file)
    assert (refused.status, refused.out) == (2, "")
    assert "holds an incomplete import" in refused.err
    with there.cli.start("import", file, "--continue") as running:
        there.until_position(there.last_position() + 1)
        stopped = running.stopped()
    assert (stopped.status, stopped.out, "Traceback" in stopped.err) == (130, "", False)
    assert f" import {file} --continue` continues it" in stopped.err

    ended = there.cli.call("import", file, "--continue")

    assert ended.status == 0, ended.err
    assert ended.lines[1].endswith(" were in the log before")
    assert there.cli.call("audit", "verify").status == 0
    assert there.last_position() == 8_000


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_copy_is_transformed_by_a_users_function(here: Side, there: Side, file: Path) -> None:
    (here.folder / "own_transform.py").write_text(
        "def tidy(event):\n"
        "    if event.position % 2:\n"
        "        return event.replace(data={**event.data, 'url': 'github:masked/masked'})\n"
        "    return None if event.position == 2 else event\n"
    )
    here.fill(1)
    assert here.cli.call("export", file).status == 0
    ended = here.cli.call("copy", file, "new.gz", "--with", "own_transform:tidy")
    assert ended.status == 0, ended.err
    assert ended.lines == [
        "1,000 events became 999 in new.gz",
        "  dropped: 1 FlakeInputAdded",
        "  masked: 500 FlakeInputAdded",
    ]
    new = here.folder / "new.gz"
    assert lines(new)[0]["transformed"][0]["by"] == "own_transform:tidy"
    assert there.cli.call("import", new).status == 0
    assert there.cli.call("audit", "verify").status == 0


def test_a_module_that_cannot_be_imported_is_reported_with_the_reason(
    here: Side, file: Path
) -> None:
    (here.folder / "own_broken.py").write_text("def tidy(event) return event\n")
    ended = here.cli.call("copy", file, "new.gz", "--with", "own_broken:tidy")
    assert (ended.status, ended.out, len(ended.err.splitlines())) == (2, "", 1)
    assert ended.err.startswith("error: --with own_broken:tidy: own_broken fails: SyntaxError: ")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("copy", "a", "b"), "Error: Invalid value for --with: name a function, or another"),
        (("copy", "none", "b", "--as", "x"), "error: none cannot be read: No such file"),
        (("copy", "own.toml", "b", "--with", "no"), "error: --with no cannot be loaded: "),
        (("copy", "own.toml", "b", "--with", "json"), "cannot be loaded: write MODULE:FUNCTION"),
        (("copy", "own.toml", "b", "--with", "no:x"), "error: --with no:x cannot be loaded: No"),
        (("copy", "own.toml", "b", "--with", "json:x"), "error: --with json:x cannot be loaded"),
        (
            ("copy", "own.toml", "b", "--with", "json:__name__"),
            "error: --with json:__name__ is not",
        ),
        (("copy", "own.toml", "b", "--with", "json:dumps"), "error: own.toml, line 1: it is no"),
        (("import", "none"), "error: none cannot be read: No such file"),
        (("import", "own.toml"), "error: own.toml, line 1: it is not an export file"),
        (("export", "own.toml"), "error: own.toml exists already: name another file, or remove it"),
        (("export", "x/y"), "error: x/y.part cannot be written: No such file or directory"),
        (("export", "-", "--continue"), "Error: Invalid value for --continue: a pipe cannot be"),
        (("export", "new.gz"), " serve`"),
    ],
    ids=lambda value: "-".join(value).replace("/", "-") if isinstance(value, tuple) else "",
)
def test_misuse_is_one_clear_line_with_status_2(
    here: Side, words: tuple[str, ...], problem: str
) -> None:
    if words != ("export", "new.gz"):
        here.fill(0)
    before = here.cli.files()
    ended = here.cli.call(*words)
    assert (ended.status, ended.out) == (2, "")
    assert problem in ended.err
    if problem.startswith("error: "):
        assert ended.err.startswith(problem), "no progress is shown before"
    assert here.cli.files() == before


def test_the_results_are_printed_as_json(here: Side, there: Side, file: Path) -> None:
    here.fill(1)
    exported = json.loads(here.cli.call("export", file, "--json").out)
    assert (exported["file"], exported["events"]) == (str(file), 1_000)
    copied = json.loads(here.cli.call("copy", file, "new.gz", "--without-foreign", "--json").out)
    assert (copied["file"], copied["before"], copied["after"]) == ("new.gz", 1_000, 1_000)
    new = here.folder / "new.gz"
    imported = json.loads(there.cli.call("import", new, "--json").out)
    assert imported == {"file": str(new), "events": 1_000, "before": 0, "stripped": 0}
    refused = here.cli.call("export", "-", "--json")
    assert (refused.status, refused.out) == (2, "")


def test_into_a_pipe(here: Side, file: Path) -> None:
    here.fill(1)
    with file.open("wb") as pipe, here.cli.start("export", "-", stdout=pipe) as running:
        assert running.process.wait(BOUND) == 0
    with subprocess.Popen(["gzip", "-dc", str(file)], stdout=subprocess.PIPE) as gzip:  # noqa: S607
        assert gzip.stdout is not None
        text = gzip.stdout.read().splitlines()
    assert [json.loads(line)["line"] for line in text] == [
        "log",
        *["event"] * 1_000,
        "checkpoint",
        "end",
    ]
