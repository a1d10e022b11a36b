"""Heads that the log does not bear out: an acknowledged append is never foreign."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from eventstore.client.client import Client, connect
from eventstore.config import AuthSettings, Secret
from eventstore.errors import Conflict
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import new_id
from eventstore.messages.headers import Header
from eventstore.server.embedded import EmbeddedServer
from eventstore.store.append import ANY, Expected
from eventstore.store.head import Head
from eventstore.store.store import EventStore
from tests.conftest import StartServer, settings_for
from tests.integration.ledger import Deposited, Opened, declare_log, jetstream, read
from tests.proxy import TcpProxy


@pytest.fixture
async def other(client: Client, codec: Codec) -> AsyncIterator[EventStore]:
    """The store of another process."""
    async with EventStore(client, codec) as other:
        yield other


async def replace_log(client: Client, codec: Codec) -> None:
    await jetstream(client).delete_stream(codec.subjects.log_stream)
    await declare_log(client, codec)


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 7},
        {"chain": "f" * 64},
        {"event_id": "0" * 36},
        {"position": 0},
        {"position": 1},
        {"position": 99},
    ],
    ids=lambda changed: next(iter(changed)),
)
async def test_a_head_that_never_was_is_a_conflict(
    store: EventStore, changed: dict[str, int | str]
) -> None:
    await store.append("account", "b", Opened())
    appended = await store.append("account", "a", Opened())
    head = msgspec.structs.replace(appended.head, **changed)
    with pytest.raises(Conflict):
        await store.append("account", "a", Deposited(), expected=head)
    assert len(await read(store, "a")) == 1


async def test_a_head_of_a_log_that_was_replaced_is_a_conflict(
    store: EventStore, other: EventStore, client: Client, codec: Codec
) -> None:
    head = (await store.append("account", "a", Opened(owner="ann"))).head
    await replace_log(client, codec)
    await other.append("account", "a", Opened(owner="bob"))
    with pytest.raises(Conflict):
        await store.append("account", "a", Deposited(), expected=head)
    assert await store.head("account", "a", leader=True, known=head) != head


@pytest.mark.parametrize("expected", [ANY, 1])
async def test_any_head_is_found_again_in_a_log_that_was_replaced(
    store: EventStore, other: EventStore, client: Client, codec: Codec, expected: Expected
) -> None:
    await store.append("account", "a", Opened(owner="ann"))
    await replace_log(client, codec)
    await other.append("account", "a", Opened(owner="bob"))
    await store.append("account", "a", Deposited(), expected=expected)
    assert [event.version for event in await read(store, "a")] == [1, 2]


async def test_a_log_that_was_replaced_while_the_connection_was_broken_is_noticed(
    nats_server: EmbeddedServer, store: EventStore, client: Client, codec: Codec
) -> None:
    async with (
        TcpProxy(nats_server) as proxy,
        connect(settings_for(proxy.url, codec.domain)) as cut,
        EventStore(cut, codec) as own,
    ):
        head = (await own.append("account", "a", Opened(owner="ann"))).head
        with proxy.refusing():
            proxy.cut()
            await replace_log(client, codec)
            await store.append("account", "a", Opened(owner="bob"))
        with pytest.raises(Conflict):
            await own.append("account", "a", Deposited(), expected=head)


@pytest.mark.parametrize("expected", [ANY, 1])
@pytest.mark.parametrize("version", ["1", "2", "9"])
async def test_a_forged_last_message_with_a_guard_is_no_head(
    store: EventStore, client: Client, codec: Codec, version: str, expected: Expected
) -> None:
    appended = await store.append("account", "a", Opened())
    subject = codec.subjects.log("account", "a")
    direct = DirectReader(client, codec.subjects.log_stream)
    stored = await direct.last(subject)
    assert stored is not None
    guard = {"Nats-Expected-Last-Subject-Sequence": str(appended.position)}
    own = {Header.AGGREGATE_VERSION: version, Header.CHAIN: "f" * 64, Header.EVENT_ID: new_id()}
    await jetstream(client).publish(
        subject, stored.payload, headers={**stored.headers, "Nats-Msg-Id": new_id(), **own, **guard}
    )
    async with EventStore(client, codec) as fresh:
        assert await fresh.head("account", "a") == appended.head
        after = await fresh.append("account", "a", Deposited(), expected=expected)
    assert after.version == 2
    assert [event.version for event in await read(store, "a")] == [1, 2]


async def test_no_head_is_known_if_the_user_may_not_hear_that_a_log_is_deleted(
    start_server: StartServer, codec: Codec
) -> None:
    rights = 'subscribe: { deny: "$JS.EVENT.>" }'
    users = f"{{ user: eve, password: e, permissions: {{ {rights} }} }}"
    server = await start_server(extra_config=f"authorization {{ users: [{users}] }}")
    eve = settings_for(server.url, auth=AuthSettings(user="eve", password=Secret("e")))
    async with connect(eve) as client, EventStore(client, codec) as store:
        await declare_log(client, codec)
        head = (await store.append("account", "a", Opened(owner="ann"))).head
        await replace_log(client, codec)
        async with EventStore(client, codec) as other:
            await other.append("account", "a", Opened(owner="bob"))
        with pytest.raises(Conflict):
            await store.append("account", "a", Deposited(), expected=head)


async def test_a_head_that_is_known_costs_no_look(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    head: Head = (await store.append("account", "a", Opened())).head
    looks: list[int] = []
    at = DirectReader.at

    async def counted(self: DirectReader, sequence: int, *, leader: bool = False) -> object:
        looks.append(sequence)
        return await at(self, sequence, leader=leader)

    monkeypatch.setattr(DirectReader, "at", counted)
    for _ in range(3):
        head = (await store.append("account", "a", Deposited(), expected=head)).head
    assert looks == []
