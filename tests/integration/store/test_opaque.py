"""Opaque events: appended, read, mixed with typed ones, verified, exported; bad ones refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from eventstore import STREAM_EXISTS, Application
from eventstore.audit import aggregate_history
from eventstore.client.client import Client, connect
from eventstore.config import Settings
from eventstore.errors import (
    Conflict,
    EventTooLarge,
    InvalidHeader,
    InvalidMessage,
    InvalidPayload,
    UnknownType,
)
from eventstore.messages.chain import chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, utc_now
from eventstore.messages.events import NewEvent, RecordedEvent
from eventstore.messages.headers import Header
from eventstore.messages.opaque import OpaqueEvent
from eventstore.projections import Projection, Statement
from eventstore.server.embedded import EmbeddedServer
from eventstore.store import Append, EventStore
from eventstore.store.pending_append import PendingAppend
from eventstore.transfer import CopiedEvent, copy
from examples import bank
from tests.conftest import settings_for
from tests.integration.ledger import Deposited, jetstream, ledger, read, read_all
from tests.integration.tampering import findings
from tests.integration.transferring import exported, imported

PICTURE = OpaqueEvent(
    type="com.example.Picture:Taken",
    payload=b"\x00\xff\r\n\x89PNG",
    content_type="image/png; v=1",
    headers={"Camera": "Größe 5", "tenant": ""},
    metadata=b"\x00any\r\nbytes",
)


async def test_an_opaque_event_is_read_as_it_was_appended(store: EventStore) -> None:
    appended = await store.append("account", "a", PICTURE)
    (event,) = await read(store, "a")
    assert event.data == PICTURE
    assert event.payload == PICTURE.payload
    assert (event.type, event.version, event.is_upcast) == (PICTURE.type, 1, False)
    assert event.position == appended.position
    assert await read_all(store) == [event]
    assert event.headers["Camera"] == "Größe 5"


async def test_opaque_and_typed_events_are_one_history(store: EventStore) -> None:
    await store.append("account", "a", [Deposited(), PICTURE, Deposited(amount=2)])
    await store.append("account", "a", OpaqueEvent(type="x", payload=b""), expected=3)
    data = [event.data for event in await read(store, "a")]
    assert data == [Deposited(), PICTURE, Deposited(amount=2), OpaqueEvent(type="x", payload=b"")]
    with pytest.raises(Conflict):
        await store.append("account", "a", PICTURE, expected=3)


async def test_a_repeated_append_is_recognised(store: EventStore) -> None:
    new = NewEvent(data=PICTURE, identity=Identity.root())
    first = await store.append("account", "a", new)
    again = await store.append("account", "a", new)
    assert (again.positions, again.duplicate) == (first.positions, True)


async def test_they_are_verified_exported_and_imported(
    store: EventStore, client: Client, codec: Codec, tmp_path: Path, other_server: EmbeddedServer
) -> None:
    await store.append("account", "a", [PICTURE, Deposited(), PICTURE])
    assert await findings(client, codec) == []
    await exported(client, codec, tmp_path / "log")
    async with connect(settings_for(other_server.url, codec.domain)) as other:
        await imported(other, codec, tmp_path / "log")
        assert await findings(other, codec) == []
        async with EventStore(other, codec) as copy:
            there = [event.data for event in await read(copy, "a")]
    assert there == [PICTURE, Deposited(), PICTURE]


async def test_a_copy_may_rename_them(
    store: EventStore, client: Client, codec: Codec, tmp_path: Path, other_server: EmbeddedServer
) -> None:
    await store.append("account", "a", [PICTURE, Deposited()])
    await exported(client, codec, tmp_path / "log")

    def renamed(event: CopiedEvent) -> CopiedEvent:
        return event.replace(type="picture") if event.type == PICTURE.type else event

    await copy(tmp_path / "log", tmp_path / "copy", renamed, name="renamed")
    async with connect(settings_for(other_server.url, codec.domain)) as other:
        await imported(other, codec, tmp_path / "copy")
        assert await findings(other, codec) == []
        async with EventStore(other, codec) as there:
            first, _ = await read(there, "a")
    assert first.data == replace(PICTURE, type="picture")


@pytest.mark.parametrize(
    "name", ["Camera", "X-Metadata", "X-Opaque", "Content-Type", "X-Event-Type"]
)
async def test_a_changed_header_breaks_the_chain(
    store: EventStore, client: Client, codec: Codec, name: str
) -> None:
    await store.append("account", "a", PICTURE)
    (event,) = await read(store, "a")
    changed = {"X-Opaque": "1 Camera tenant", "Content-Type": "image/gif", "X-Metadata": "YQ=="}
    headers = {**event.headers, "Nats-Msg-Id": "other", name: changed.get(name, "other")}
    assert (
        chain_value("0" * 64, codec.subjects.log("account", "a"), headers, event.payload)
        != event.envelope.chain
    )
    other = codec.subjects.log("account", "b")
    headers |= {Header.EVENT_ID: event.id, "Nats-Msg-Id": "6c84fb90-12c4-11e1-840d-7b25c5ee775a"}
    await jetstream(client).publish(other, event.payload, headers=headers)
    assert await read(store, "b") == []


async def test_a_codec_may_have_aggregates_of_opaque_events_only(
    store: EventStore, client: Client, codec: Codec
) -> None:
    plain = Codec(codec.domain, (), (), aggregates=["stream"])
    async with EventStore(client, plain) as other:
        await other.append("stream", "s", PICTURE)
        assert [event.data async for event in other.read("stream", "s")] == [PICTURE]
        with pytest.raises(UnknownType, match="unknown aggregate 'steam'"):
            await other.append("steam", "s", PICTURE)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"type": ""}, InvalidHeader, "X-Event-Type is ''"),
        ({"type": "with space"}, InvalidHeader, "printable ASCII"),
        ({"type": "x" * 129}, InvalidHeader, "128"),
        ({"type": 5}, InvalidHeader, "X-Event-Type"),
        ({"type": "Deposited"}, InvalidMessage, "Deposited is an event type"),
        ({"payload": "text"}, InvalidPayload, "not bytes"),
        ({"metadata": None}, InvalidPayload, "metadata"),
        ({"content_type": "text"}, InvalidHeader, "media type"),
        ({"content_type": "text/a\r\nX-Chain: 1"}, InvalidHeader, "Content-Type"),
        ({"headers": {"X-Chain": "1"}}, InvalidHeader, "reserved"),
        ({"headers": {"nats-msg-id": "1"}}, InvalidHeader, "reserved"),
        ({"headers": {"Traceparent": "1"}}, InvalidHeader, "reserved"),
        ({"headers": {"X-Metadata": "YQ=="}}, InvalidHeader, "metadata"),
        ({"headers": {"a": "1\n2"}}, InvalidHeader, "printable"),
        ({"headers": {"a": " 1"}}, InvalidHeader, "without space"),
        ({"headers": {"a": 1}}, InvalidHeader, "no text"),
        ({"headers": {"a b": "1"}}, InvalidHeader, "not allowed"),
        ({"headers": {"a": "1", "A": "2"}}, InvalidHeader, "upper and lower case"),
        ({"headers": {"a": "x" * 70_000}}, EventTooLarge, "headers"),
        ({"payload": bytes(2_000_000)}, EventTooLarge, "maximum"),
    ],
)
async def test_bad_input_changes_nothing(
    store: EventStore, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    about: dict[str, Any] = {"type": "x", "payload": b"", **change}
    with pytest.raises(error, match=text):
        await store.append("account", "a", OpaqueEvent(**about))
    assert await store.log_end() == 0


names = st.from_regex(r"[a-w][A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}", fullmatch=True).filter(
    lambda name: (
        name.lower() not in {"content-type", "traceparent", "status", "description"}
        and not name.lower().startswith(("nats-", "kv-"))
    )
)
values = st.from_regex(r"([!-~äß]([ -~äß]*[!-~äß])?)?", fullmatch=True)


@given(
    headers=st.dictionaries(names, values, max_size=3).filter(
        lambda own: len({name.lower() for name in own}) == len(own)
    ),
    metadata=st.binary(max_size=50),
    payload=st.binary(max_size=50),
)
def test_all_of_it_goes_through_the_headers(
    headers: dict[str, str], metadata: bytes, payload: bytes
) -> None:
    event = OpaqueEvent(type="t:y.p/e", payload=payload, headers=headers, metadata=metadata)
    append = Append(aggregate="account", aggregate_id="a", events=[event])
    (draft,) = PendingAppend(append, ledger("d"), utc_now()).drafts()
    chained = chain_value("0" * 64, draft.subject, draft.headers, payload)
    assert draft.headers[Header.CHAIN] == chained
    (read,) = ledger("d").recorded(draft.subject, draft.headers, payload, 1)
    assert (read.data, read.envelope.chain) == (event, chained)


async def test_deciders_pass_over_them_and_projections_may_handle_them(
    settings: Settings, tmp_path: Path
) -> None:
    columns = Column("id", String(64), primary_key=True), Column("size", Integer)
    table = Table("picture", MetaData(), *columns)
    pictures = Projection("pictures", tables=[table])

    @pictures.handles
    def taken(event: OpaqueEvent, record: RecordedEvent) -> Statement:
        return insert(table).values(id=record.aggregate_id, size=len(event.payload))

    app = Application("bank", [bank.account], projections=[bank.accounts, pictures])
    own = settings.in_directory(tmp_path)
    async with asyncio.timeout(45), app.running(own, feed=False, queries=False) as service:
        await service.execute(bank.Deposit(amount=5), "ann")
        appended = await service.store.append("account", "ann", PICTURE, expected=STREAM_EXISTS)
        outcome = await service.execute(bank.Withdraw(amount=2), "ann", expected=2)
        assert (outcome.status, outcome.version) == ("success", 3)
        assert await service.load("account", "ann") == bank.Account(3)
        await service.wait(appended.position, "pictures", 45)
        rows = await service.read_model.read(lambda each: each.execute(select(table)).all())
        history = await aggregate_history(service.client, service.domain, "account", "ann")
    assert [tuple(row) for row in rows] == [("ann", len(PICTURE.payload))]
    assert [step.type for step in history.steps] == ["Deposited", PICTURE.type, "Withdrawn"]
