"""Backup and restore: everything comes back as it was, and what does not fit changes nothing."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from eventstore.backup import back_up, check_backup, restore
from eventstore.backup.files import new_file
from eventstore.backup.manifest import Manifest
from eventstore.client.client import Client, connect
from eventstore.client.master_keys import MasterKeys, new_master_key
from eventstore.config import StreamSettings
from eventstore.errors import (
    BackupDamaged,
    MasterKeyError,
    RestoreRefused,
    StreamDrift,
    StreamMissing,
    TransferError,
)
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.messages.subjects import Subjects
from eventstore.messages.types import Event
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.key_bucket import KeyBucket, KeyEntry
from eventstore.store.store import EventStore
from eventstore.transfer.fence import Fence
from tests.conftest import settings_for
from tests.integration.backup.backups import (
    changed_manifest,
    delete_streams,
    raw_streams,
    read_model,
    rows_of,
    whole_domain,
)
from tests.integration.customers import CustomerRegistered, shop
from tests.integration.ledger import ledger
from tests.integration.transferring import flipped, shortened

ANN = CustomerRegistered(email="ann@example.org")


class Source(NamedTuple):
    """A domain that has something everywhere, a backup of it, and what there was."""

    codec: Codec
    url: str
    made: Path
    rows: Path
    before: dict[str, Any]


@pytest.fixture(scope="module")
def source(nats_server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("source")
    codec = ledger(f"t{secrets.token_hex(4)}")
    rows = read_model(folder / "rows.sqlite")

    async def make() -> Source:
        async with (
            connect(settings_for(nats_server.url, codec.domain)) as client,
            EventStore(client, codec) as store,
        ):
            await whole_domain(client, store, codec)
            await back_up(client, codec.subjects, folder / "backup", read_model=rows)
            before = await raw_streams(client, codec.subjects)
        return Source(codec, nats_server.url, folder / "backup", rows, before)

    return asyncio.run(make())


@pytest.fixture
def domain_name(source: Source) -> str:
    return source.codec.domain


@pytest.fixture
def made(source: Source, tmp_path: Path) -> Path:
    """A copy of the backup, to be changed."""
    return shutil.copytree(source.made, tmp_path / "made")


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """Where a backup can be made."""
    return tmp_path / "backup"


@pytest.fixture
async def there(other_server: EmbeddedServer, source: Source) -> AsyncIterator[Client]:
    """A client of another server, on which the domain is not."""
    async with connect(settings_for(other_server.url, source.codec.domain)) as client:
        yield client
        await delete_streams(client, source.codec.subjects)


class Stop:
    """Cancels the work that it reports on as soon as that is at a part, as Ctrl-C would."""

    def __init__(self, part: str) -> None:
        self._part = part
        self._task = asyncio.current_task()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what.endswith(self._part) and not what.startswith("checking"):
            assert self._task is not None
            self._task.cancel()


async def interrupted(work: Callable[[Stop], Awaitable[Any]], part: str) -> None:
    async def run() -> None:
        await work(Stop(part))

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(run())


def times(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.iterdir()}


async def test_everything_comes_back_as_it_was(
    source: Source, client: Client, there: Client, tmp_path: Path
) -> None:
    codec, restored = source.codec, tmp_path / "new" / "rows.sqlite"
    done = await restore(there, codec.subjects, source.made, read_model=restored)

    assert len(source.before) == 10
    assert await raw_streams(there, codec.subjects) == source.before
    log = source.before[codec.subjects.log_stream]["messages"]
    assert (done.events, done.read_model) == (len(log), True)
    assert rows_of(restored) == rows_of(source.rows)
    async with EventStore(there, codec) as copy, EventStore(client, codec) as store:
        assert await copy.identity() == await store.identity()
    # It is as declared, and everybody may write to it.
    assert await declare(there, topology(codec.subjects, StreamSettings())) == []


def test_a_backup_is_for_its_owner_only(source: Source) -> None:
    assert source.made.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in source.made.iterdir()} == {0o600}


@pytest.mark.parametrize("part", ["_EVENT", "_LOG", "read model"])
async def test_an_interrupted_backup_goes_on_after_its_last_complete_part(
    source: Source, client: Client, backup: Path, part: str
) -> None:
    subjects = source.codec.subjects
    rows = source.rows
    await interrupted(
        lambda stop: back_up(client, subjects, backup, read_model=rows, progress=stop), part
    )
    with pytest.raises(BackupDamaged, match="interrupted backup: complete it"):
        await check_backup(backup, subjects)
    with pytest.raises(TransferError, match="is no empty directory: name another one, or contin"):
        await back_up(client, subjects, backup, read_model=rows)
    before = times(backup)

    await back_up(client, subjects, backup, read_model=rows, resume=True)

    config = backup / f"KV_{subjects.config_bucket}.snapshot"
    assert times(backup)[config] == before[config]
    await check_backup(backup, subjects)
    parts = Manifest.read(backup).streams
    assert {part.name: part.origin.messages for part in parts} == {
        name: len(stream["messages"]) for name, stream in source.before.items()
    }
    assert rows_of(backup / "read_model.sqlite") == rows_of(rows)


async def test_a_complete_backup_is_only_checked_when_it_is_continued(
    made: Path, client: Client, source: Source
) -> None:
    before = times(made)
    await back_up(client, source.codec.subjects, made, resume=True)
    assert times(made) == before


@pytest.mark.parametrize("part", ["_LOG", "_CMD", "read model"])
async def test_an_interrupted_restore_goes_on_and_nobody_starts_on_it(
    source: Source, there: Client, tmp_path: Path, part: str
) -> None:
    rows, subjects, made = tmp_path / "new.sqlite", source.codec.subjects, source.made
    await interrupted(
        lambda stop: restore(there, subjects, made, read_model=rows, progress=stop), part
    )
    if part != "_LOG":  # the first
        with pytest.raises(StreamDrift):
            await declare(there, topology(subjects, StreamSettings()))
        with pytest.raises(RestoreRefused, match="continue the interrupted restore"):
            await restore(there, subjects, made, read_model=rows)

    await restore(there, subjects, made, read_model=rows, resume=True)

    assert await raw_streams(there, subjects) == source.before
    assert rows_of(rows) == rows_of(source.rows)


async def test_a_restore_that_is_complete_changes_nothing_when_it_is_continued(
    source: Source, there: Client
) -> None:
    subjects = source.codec.subjects
    await restore(there, subjects, source.made)
    await there.request(subjects.log("journal", "later"), b"{}")  # by a service
    used = await raw_streams(there, subjects)
    await restore(there, subjects, source.made, resume=True)
    assert await raw_streams(there, subjects) == used


def test_a_full_disk_is_named() -> None:
    text = "/dev/full cannot be written: No space left"
    with pytest.raises(TransferError, match=text), new_file(Path("/dev/full")) as file:
        file.write(b"x" * 1_000_000)


async def test_the_read_model_is_of_one_moment_while_it_is_written(
    source: Source, client: Client, backup: Path, tmp_path: Path
) -> None:
    """Two tables that every transaction moves together are the same in the copy."""
    path = read_model(tmp_path / "rows.sqlite", 50_000)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE checkpoint (n INTEGER)")
        database.execute("INSERT INTO checkpoint VALUES (50000)")
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path)) as database:
            number = 50_000
            while not stop.is_set():
                with database:
                    database.execute("INSERT INTO t VALUES (?, 'y')", (number,))
                    number += 1
                    database.execute("UPDATE checkpoint SET n = ?", (number,))
                written.set()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        await asyncio.to_thread(written.wait)
        await back_up(client, source.codec.subjects, backup, read_model=path)
    finally:
        stop.set()
        writing.join()
    with closing(sqlite3.connect(backup / "read_model.sqlite")) as copy:
        (rows,) = copy.execute("SELECT count(*) FROM t").fetchone()
        (checkpoint,) = copy.execute("SELECT n FROM checkpoint").fetchone()
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert rows == checkpoint > 50_000


class Shop(NamedTuple):
    """A domain with personal data, on each of two servers."""

    codec: Codec
    here: str
    there: str

    def at(self, url: str, master: str | None = None) -> Client:
        wrapping = None if master is None else MasterKeys.parse(master, "")
        return connect(settings_for(url, self.codec.domain), key_wrapping=wrapping)


@pytest.fixture
def customers(nats_server: EmbeddedServer, other_server: EmbeddedServer) -> Shop:
    domain = shop.renamed(f"t{secrets.token_hex(4)}")
    return Shop(domain.codec, nats_server.url, other_server.url)


async def test_personal_data_need_the_master_key_which_is_not_in_the_backup(
    customers: Shop, backup: Path
) -> None:
    codec, master = customers.codec, new_master_key("m1")
    async with customers.at(customers.here, master) as client, EventStore(client, codec) as store:
        await declare(client, topology(codec.subjects, StreamSettings()))
        await store.append("customer", "ann", ANN)
        await back_up(client, codec.subjects, backup)
    async with customers.at(customers.there) as client:
        await restore(client, codec.subjects, backup)

    content = content_of(backup)
    key = base64.b64decode(master.partition(":")[2])
    assert len(key) == 32
    assert key not in content
    assert base64.b64encode(key) not in content
    with pytest.raises(MasterKeyError, match="master key m1 is not known"):
        await read_ann(customers, new_master_key("m2"))
    assert await read_ann(customers, master) == ANN


async def test_who_was_forgotten_is_remembered_in_no_backup_without_the_former_master_key(
    customers: Shop, backup: Path
) -> None:
    """The way to forget a person in backups: another master key, and the former one destroyed."""
    codec, former, master = customers.codec, new_master_key("m1"), new_master_key("m2")
    both = f"{master},{former}"
    async with customers.at(customers.here, former) as client, EventStore(client, codec) as store:
        await declare(client, topology(codec.subjects, StreamSettings()))
        await store.append("customer", "ann", ANN)
        await back_up(client, codec.subjects, backup)
    async with customers.at(customers.here, both) as client:
        bucket = KeyBucket(client, codec.subjects)
        (ref,) = [ref async for ref, _ in bucket.refs()]
        await bucket.destroy(ref, "2026-01-01T00:00:00.000000Z")
        assert await bucket.rewrap(ref) == "forgotten"

    async with customers.at(customers.there) as client:
        await restore(client, codec.subjects, backup)

    assert await read_ann(customers, both) == ANN  # the backup has her key
    with pytest.raises(MasterKeyError, match="master key m1 is not known"):
        await read_ann(customers, master)


def content_of(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def read_ann(customers: Shop, master: str) -> Event:
    async with (
        customers.at(customers.there, master) as client,
        EventStore(client, customers.codec) as store,
        aclosing(store.read("customer", "ann")) as events,
    ):
        return (await anext(events)).data


async def test_a_key_that_no_master_key_wraps_is_not_put_into_a_backup(
    customers: Shop, backup: Path
) -> None:
    subjects = customers.codec.subjects
    entry = b'{"v":1,"key":"' + b"A" * 43 + b'="}'
    assert KeyEntry.read(entry).is_key
    async with customers.at(customers.here) as client:
        await declare(client, topology(subjects, StreamSettings()))
        await KeyValue(client, subjects.key_bucket).put("r" * 32, entry)
        with pytest.raises(TransferError, match="1 key of personal data would be in the backup"):
            await back_up(client, subjects, backup)
    assert backup.name not in os.listdir(backup.parent)


async def refused(
    there: Client, subjects: Subjects, made: Path, error: type[Exception], text: str
) -> None:
    """The restore is refused, as is the check, and changes nothing."""
    with pytest.raises(error, match=text):
        await check_backup(made, subjects)
    with pytest.raises(error, match=text):
        await restore(there, subjects, made)
    assert await raw_streams(there, subjects) == {}


async def test_a_damaged_backup_is_refused(made: Path, there: Client, source: Source) -> None:
    subjects = source.codec.subjects
    snapshot = made / f"{subjects.log_stream}.snapshot"
    shortened(snapshot, -1)
    await refused(there, subjects, made, BackupDamaged, "_LOG.snapshot has .* bytes instead of")
    shutil.copyfile(source.made / snapshot.name, snapshot)
    flipped(snapshot, 1_000)
    await refused(there, subjects, made, BackupDamaged, "_LOG.snapshot was changed: its checksum")
    os.unlink(snapshot)
    await refused(there, subjects, made, BackupDamaged, "_LOG.snapshot cannot be read: No such")
    shutil.copyfile(source.made / snapshot.name, snapshot)
    flipped(made / "read_model.sqlite", 5_000)
    await refused(there, subjects, made, BackupDamaged, "read_model.sqlite was changed")


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"format": 2}, RestoreRefused, "has format 2, and this release reads up to 1: restore it"),
        ({"domain": "other"}, BackupDamaged, "was changed: its checksum differs"),
        ({"streams": []}, BackupDamaged, "was changed: its checksum differs"),
        ({"streams": 1}, BackupDamaged, "was changed or is incomplete"),
        ({"format": "x"}, BackupDamaged, "was changed or is incomplete"),
    ],
)
async def test_a_changed_manifest_is_refused(
    made: Path, source: Source, fields: Any, error: type[Exception], text: str
) -> None:
    changed_manifest(made, **fields)
    with pytest.raises(error, match=text):
        await check_backup(made, source.codec.subjects)


async def test_what_is_no_backup_or_of_another_domain_is_refused(
    source: Source, there: Client, tmp_path: Path
) -> None:
    text = "is of domain t.*, and this is other"
    await refused(there, Subjects("other"), source.made, RestoreRefused, text)
    text = "is no backup: backup.json can"
    await refused(there, source.codec.subjects, tmp_path, BackupDamaged, text)


async def test_a_backup_is_not_restored_into_what_is_not_empty(
    source: Source, client: Client, there: Client, tmp_path: Path
) -> None:
    subjects = source.codec.subjects
    for resume in (False, True):
        with pytest.raises(
            RestoreRefused, match=r"is not empty here; it has .*_ACTION .*_LOG \(\d+ mess"
        ):
            await restore(client, subjects, source.made, resume=resume)
    assert await raw_streams(client, subjects) == source.before
    rows = read_model(tmp_path / "there.sqlite", 3)
    with pytest.raises(RestoreRefused, match=r"a read model is there already: .*there.sqlite"):
        await restore(there, subjects, source.made, read_model=rows)
    assert await raw_streams(there, subjects) == {}
    assert len(rows_of(rows)) == 3


async def test_what_cannot_be_backed_up_is_refused_before_anything_is_written(
    there: Client, source: Source, backup: Path, tmp_path: Path
) -> None:
    subjects = source.codec.subjects
    with pytest.raises(StreamMissing):
        await back_up(there, subjects, backup)
    await declare(there, topology(subjects, StreamSettings()))
    with pytest.raises(TransferError, match=r"there is no read model .*none.sqlite: name it"):
        await back_up(there, subjects, backup, read_model=tmp_path / "none.sqlite")
    await Fence(there, subjects, StreamSettings()).take()
    with pytest.raises(TransferError, match="has an import or a restore in progress"):
        await back_up(there, subjects, backup)
    assert backup.name not in os.listdir(backup.parent)
    with pytest.raises(TransferError, match="is no empty directory"):
        await back_up(there, subjects, source.rows)
