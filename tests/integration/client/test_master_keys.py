"""Master keys: the keys of data subjects are wrapped in NATS, and can be wrapped by another one."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from eventstore.application import WriteSide
from eventstore.client.client import Client, Msg, connect
from eventstore.client.master_keys import MasterKeys, WrappedKey, new_master_key
from eventstore.config import PersonalSettings, Secret, Settings
from eventstore.decider.domain import Domain
from eventstore.errors import MasterKeyError
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.encryption import DataKey, DestroyedKey
from eventstore.messages.personal import ref_of
from eventstore.messages.types import Event
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.key_bucket import KeyBucket, KeyEntry
from eventstore.store.store import EventStore
from tests.conftest import settings_for, started_server
from tests.integration.command_line import CommandLine, ProcessResult
from tests.integration.customers import CustomerRegistered, shop

ANN = CustomerRegistered(email="ann@example.org")
OLD, NEW = new_master_key("old"), new_master_key("new")


@pytest.fixture(scope="module")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server of these tests' own, which has few files to search."""
    with started_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


def with_keys(settings: Settings, *lines: str) -> Settings:
    """The settings with these master keys, or none."""
    text = Secret("\n".join(lines)) if lines else None
    return msgspec.structs.replace(settings, personal=PersonalSettings(master_key=text))


class Stores:
    """Stores of one domain, as of processes with different master keys."""

    def __init__(self, settings: Settings, domain: Domain, stack: AsyncExitStack) -> None:
        self.settings = settings
        self.domain = domain
        self._stack = stack

    async def client(self, *lines: str) -> Client:
        return await self._stack.enter_async_context(connect(with_keys(self.settings, *lines)))

    async def with_keys(self, *lines: str) -> EventStore:
        store = EventStore(await self.client(*lines), self.domain.codec)
        return await self._stack.enter_async_context(store)

    async def bucket(self, *lines: str) -> KeyBucket:
        return KeyBucket(await self.client(*lines), self.domain.codec.subjects)


@pytest.fixture
async def stores(settings: Settings, domain_name: str) -> AsyncIterator[Stores]:
    async with AsyncExitStack() as stack:
        stores = Stores(settings, shop.renamed(domain_name), stack)
        client = await stores.client()
        subjects = stores.domain.codec.subjects
        needed = (subjects.log_stream, subjects.action_stream, f"KV_{subjects.key_bucket}")
        specs = topology(subjects, settings.streams)
        await declare(client, [spec for spec in specs if spec.name in needed])
        yield stores


async def read(store: EventStore, subject: str = "ann") -> list[Event]:
    return [event.data async for event in store.read("customer", subject)]


async def entries(stores: Stores) -> list[tuple[str, KeyEntry]]:
    return [each async for each in (await stores.bucket()).refs()]


async def put(stores: Stores, subject: str, entry: KeyEntry) -> int:
    """Have an entry stand there, as another release or another tool would leave it."""
    prefix = f"$KV.{stores.domain.codec.subjects.key_bucket}."
    payload = msgspec.json.encode(entry)
    ack = await publish_acked(await stores.client(), prefix + ref_of(subject), payload)
    return ack.seq


async def test_the_bucket_holds_no_key_in_clear(stores: Stores) -> None:
    store = await stores.with_keys(OLD)
    await store.append("customer", "ann", ANN)
    ((ref, entry),) = await entries(stores)
    assert (ref, entry.key, entry.master) == (ref_of("ann"), None, "old")
    key = (await store.keyring.to_seal(["ann"]))[ref]
    assert isinstance(key, DataKey)
    assert entry.wrapped is not None
    assert key.secret not in entry.wrapped
    assert await read(await stores.with_keys(OLD)) == [ANN]


async def test_no_key_passes_over_any_subject_in_clear(stores: Stores) -> None:
    listener = await stores.client()
    passed: list[bytes] = []

    async def listen(message: Msg) -> None:
        passed.append(message.data)

    await listener.subscribe(">", listen)
    await listener.flush()
    store = await stores.with_keys(OLD)
    await store.append("customer", "ann", ANN)
    assert await read(await stores.with_keys(OLD)) == [ANN]
    key = (await store.keyring.to_seal(["ann"]))[ref_of("ann")]
    await (await stores.bucket(NEW, OLD)).rewrap(ref_of("ann"))
    await listener.flush()
    assert any(b'"wrapped"' in data for data in passed)
    assert isinstance(key, DataKey)
    for form in (key.secret, base64.b64encode(key.secret)):
        assert not any(form in data or form in decoded(data) for data in passed)


def decoded(answer: bytes) -> bytes:
    """What an answer of JetStream holds of a message."""
    try:
        return base64.b64decode(msgspec.json.decode(answer)["message"]["data"])
    except (ValueError, TypeError, KeyError, UnicodeDecodeError):
        return b""


async def test_without_a_master_key_nothing_personal_is_recorded(stores: Stores) -> None:
    store = await stores.with_keys()
    with pytest.raises(MasterKeyError, match="make one by `eventstore keys new"):
        await store.append("customer", "ann", ANN)
    assert (await store.head("customer", "ann")).version == 0
    assert await entries(stores) == []


async def test_a_wrong_master_key_is_named_and_nobody_counts_as_forgotten(stores: Stores) -> None:
    await (await stores.with_keys(OLD)).append("customer", "ann", ANN)
    for lines, problem in (
        ((NEW,), "master key old is not known, only new"),
        ((new_master_key("old"),), "another key of the same name"),
        ((), "no master key is configured, and old has wrapped keys of the domain"),
    ):
        store = await stores.with_keys(*lines)
        with pytest.raises(MasterKeyError, match=problem):
            await read(store)
        with pytest.raises(MasterKeyError):
            await store.append("customer", "ann", ANN)
    assert await read(await stores.with_keys(NEW, OLD)) == [ANN]


async def test_a_wrapped_key_is_of_no_use_to_another_subject_or_domain(stores: Stores) -> None:
    await (await stores.with_keys(OLD)).append("customer", "ann", ANN)
    ((_, entry),) = await entries(stores)
    await put(stores, "ben", entry)
    store = await stores.with_keys(OLD)
    with pytest.raises(MasterKeyError, match="changed or moved"):
        await store.append("customer", "ben", ANN)


async def test_who_forgets_needs_no_master_key(stores: Stores) -> None:
    store = await stores.with_keys(OLD)
    await store.append("customer", "ann", ANN)
    assert await (await stores.with_keys()).keyring.forget("ann") is not None
    assert await read(await stores.with_keys(OLD)) == [CustomerRegistered(email="[forgotten]")]


class Elsewhere:
    """A key management service: it has the key, and is asked."""

    current = "elsewhere"

    def __init__(self) -> None:
        self._keys = MasterKeys.parse(new_master_key(), "here")

    async def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        return WrappedKey(self.current, (await self._keys.wrap(key, context)).data)

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        assert wrapped.master == self.current
        return await self._keys.unwrap(WrappedKey(self._keys.current, wrapped.data), context)


async def test_a_key_management_service_replaces_master_keys(
    settings: Settings, domain_name: str
) -> None:
    wrapping = Elsewhere()
    for count in (1, 2):
        async with WriteSide(
            shop.renamed(domain_name), with_keys(settings), key_wrapping=wrapping
        ) as app:
            await app.store.append("customer", "ann", ANN)
            assert await read(app.store) == [ANN] * count


# An application


async def test_an_application_with_personal_data_does_not_start_without_its_master_key(
    settings: Settings, domain_name: str
) -> None:
    domain = shop.renamed(domain_name)
    with pytest.raises(MasterKeyError, match="eventstore keys new"):
        async with WriteSide(domain, with_keys(settings)):
            pass
    async with WriteSide(domain, with_keys(settings, OLD)) as app:
        await app.store.append("customer", "ann", ANN)
    for lines, problem in (
        ((NEW,), "master key old is not known, only new"),
        ((), "no master key is configured, and old has wrapped keys of the domain"),
    ):
        with pytest.raises(MasterKeyError, match=problem):
            async with WriteSide(domain, with_keys(settings, *lines)):
                pass


async def test_with_an_embedded_server_a_master_key_is_there(
    settings: Settings, domain_name: str, nats_server: EmbeddedServer
) -> None:
    assert stat.S_IMODE(nats_server.master_key_file.stat().st_mode) == 0o600
    for again in (settings, settings_for(nats_server.url, domain_name)):
        assert again.personal.master_key_file == nats_server.master_key_file
        async with WriteSide(shop.renamed(domain_name), again) as app:
            await app.store.append("customer", "ann", ANN)
            assert (await read(app.store))[0] == ANN


# Keys of an earlier release, and another master key


async def clear_key(stores: Stores, subject: str) -> bytes:
    """Have a key stand there in clear; what it looks like in the server's files."""
    secret = os.urandom(32)
    await put(stores, subject, KeyEntry(key=secret))
    return base64.b64encode(secret)


async def test_a_key_of_an_earlier_release_is_read_and_wrapped_when_it_is_used_to_record(
    stores: Stores, nats_server: EmbeddedServer
) -> None:
    clear = await clear_key(stores, "ann")
    reader = await stores.bucket()
    assert isinstance(await reader.find(ref_of("ann")), DataKey)
    with pytest.raises(MasterKeyError):
        await reader.find_or_create(ref_of("ann"))
    assert in_files(nats_server, clear)
    store = await stores.with_keys(OLD)
    await store.append("customer", "ann", ANN)
    assert not in_files(nats_server, clear)
    ((_, entry),) = await entries(stores)
    assert (entry.key, entry.master) == (None, "old")
    assert await read(store) == [ANN]


def in_files(server: EmbeddedServer, secret: bytes) -> list[Path]:
    return [
        path
        for path in server.data_directory.rglob("*")
        if path.is_file() and secret in path.read_bytes()
    ]


async def test_rewrapping_goes_on_where_it_was_cut_off(
    stores: Stores, nats_server: EmbeddedServer
) -> None:
    clear = await clear_key(stores, "ann")
    bucket, ref = await stores.bucket(OLD), ref_of("ann")
    key = await bucket.find(ref)
    assert isinstance(key, DataKey)
    half = await bucket._wrap(ref, key, 1)
    await put(stores, "ann", half)  # and then it died, before the one in clear was overwritten
    assert in_files(nats_server, clear)
    assert await bucket.rewrap(ref) == "unchanged"
    assert not in_files(nats_server, clear)
    assert await bucket.find(ref) == key


async def test_forgetting_after_a_rewrap_that_was_cut_off_leaves_nothing(
    stores: Stores, nats_server: EmbeddedServer
) -> None:
    clear = await clear_key(stores, "ann")
    bucket, ref = await stores.bucket(OLD), ref_of("ann")
    key = await bucket.find(ref)
    assert isinstance(key, DataKey)
    half = await bucket._wrap(ref, key, 1)
    await put(stores, "ann", half)
    assert isinstance(await bucket.destroy(ref, "2026-01-01T00:00:00.000000Z"), DestroyedKey)
    assert half.wrapped is not None
    assert not in_files(nats_server, clear)
    assert not in_files(nats_server, base64.b64encode(half.wrapped))
    assert await bucket.rewrap(ref) == "forgotten"


async def test_rewrapping_while_others_record_loses_no_key(stores: Stores) -> None:
    store = await stores.with_keys(OLD)
    names = [f"s{number}" for number in range(20)]
    for name in names:
        await store.append("customer", name, ANN)
    bucket = await stores.bucket(NEW, OLD)
    for name in names:
        assert await bucket.rewrap(ref_of(name)) == "rewrapped"
        assert await bucket.rewrap(ref_of(name)) == "unchanged"
        await store.append("customer", name, ANN)
    reader = await stores.with_keys(NEW)
    for name in names:
        assert await read(reader, name) == [ANN, ANN]


# The command line


@pytest.fixture
def cli(tmp_path: Path, nats_server: EmbeddedServer, domain_name: str) -> CommandLine:
    (tmp_path / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain_name}"\n')
    return CommandLine(tmp_path, EVENTSTORE_CONFIG="own.toml", NATS_URL=nats_server.url)


@pytest.mark.parametrize("mask", [0o022, 0o000])
def test_a_master_key_is_made_for_its_user_only(cli: CommandLine, mask: int) -> None:
    before = os.umask(mask)
    try:
        ended = cli.call("keys", "new", "--name", "mine", "--output", "master.keys")
    finally:
        os.umask(before)
    assert (ended.status, ended.out) == (0, "master key mine is in master.keys\n")
    file = cli.folder / "master.keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    made = file.read_text()
    assert MasterKeys.parse(made, "it").current == "mine"
    assert cli.call("keys", "new", "--output", "master.keys").status == 2
    assert file.read_text() == made


def test_a_master_key_is_printed(cli: CommandLine) -> None:
    ended = cli.call("keys", "new")
    assert ended.status == 0
    assert repr(MasterKeys.parse(ended.out, "it")) == f"MasterKeys({ended.out.partition(':')[0]})"


async def run(cli: CommandLine, *words: object) -> ProcessResult:
    return await asyncio.to_thread(cli.call, *words)


async def test_all_keys_are_rewrapped_and_it_says_so(stores: Stores, cli: CommandLine) -> None:
    store = await stores.with_keys(OLD)
    for name in ("ann", "ben"):
        await store.append("customer", name, ANN)
    await store.keyring.forget("ben")
    await clear_key(stores, "cy")

    assert (await run(cli, "keys", "status")).lines == [
        "master key old wraps 1 key",
        "not wrapped: 1 key; run `keys rewrap`",
        "forgotten: 1 subject",
    ]
    (cli.folder / "new").write_text(NEW)
    (cli.folder / "old").write_text(OLD)
    missing = await run(cli, "keys", "rewrap", "--master-key-file", "new")
    assert missing.status == 2
    assert "master key old is not known, only new" in missing.err
    words = ("keys", "rewrap", "--master-key-file", "new", "--master-key-file", "old")
    await run(cli, *words)
    again = await run(cli, *words)
    assert (again.status, again.out) == (
        0,
        "master key new wraps 2 keys, 0 of them rewrapped now; forgotten: 1 subject\n",
    )
    ended = await run(cli, "keys", "status", "--json")
    assert ended.status == 0
    assert msgspec.json.decode(ended.out) == {"wrapped": {"new": 2}, "clear": 0, "forgotten": 1}
    assert await read(await stores.with_keys(NEW)) == [ANN]


async def test_a_first_rewrap_without_any_master_key_says_how_to_make_one(
    stores: Stores, cli: CommandLine
) -> None:
    await clear_key(stores, "ann")
    ended = await run(cli, "keys", "rewrap")
    assert ended.status == 2
    assert "eventstore keys new" in ended.err
