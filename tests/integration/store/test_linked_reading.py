"""Aggregates whose events lie far apart are read backwards, and as they are read in pages."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.client.client import Client
from eventstore.client.protocol import header_lines
from eventstore.concurrency.pages import Pages
from eventstore.errors import Conflict
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.store import linked_reading
from eventstore.store.append import ANY, Append
from eventstore.store.head import Head
from eventstore.store.store import EventStore
from tests.integration.ledger import Deposited, Opened, fixed, read
from tests.integration.store.test_read import forge, forged

FAR = 3
GUARD = "Nats-Expected-Last-Subject-Sequence"


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few messages between two are many."""
    monkeypatch.setattr(linked_reading, "_FAR", FAR)
    monkeypatch.setattr(linked_reading, "_NEAR", FAR)


@pytest.fixture
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not search the whole log for messages."""
    page, pages = DirectReader.page, DirectReader.pages

    def one(self: DirectReader, subject: str, after: int, max_messages: int) -> Any:
        assert after, "the server searches the log"
        return page(self, subject, after, max_messages)

    def few(self: DirectReader, subject: str, after: int = 0, **options: Any) -> Any:
        assert after, "the server searches the log"
        return pages(self, subject, after, **options)

    async def searched(*_: object, **__: object) -> Any:
        raise AssertionError("the server searches the log")

    monkeypatch.setattr(DirectReader, "pages", few)
    monkeypatch.setattr(DirectReader, "page", one)
    monkeypatch.setattr(DirectReader, "last_of_each", searched)


async def others(store: EventStore, count: int = 2 * FAR) -> None:
    await store.append("account", "other", [Deposited() for _ in range(count)])


async def far_apart(store: EventStore) -> Head:
    """Events appended alone, together, and together with another aggregate's; the third's head."""
    await store.append("account", "a1", Opened())
    await others(store)
    third = await store.append("account", "a1", [Deposited(amount=1), Deposited(amount=2)])
    await others(store)
    appends = [
        Append(aggregate="account", aggregate_id=each, events=[Deposited(amount=3), Deposited()])
        for each in ("a2", "a1", "a3")
    ]
    await store.append_all(*appends)
    await others(store)
    return third.head


async def in_pages(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, aggregate_id: str = "a1"
) -> list[RecordedEvent]:
    """The events as they are read in pages."""
    with monkeypatch.context() as patched:
        patched.setattr(linked_reading, "_FAR", 10_000)
        return await read(store, aggregate_id)


@pytest.mark.usefixtures("spread")
async def test_events_far_apart_are_read_as_in_pages(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = await far_apart(store)
    expected = await in_pages(store, monkeypatch)
    assert [event.version for event in expected] == [1, 2, 3, 4, 5]
    searches = _counted(monkeypatch)
    assert await read(store, "a1") == expected
    assert await read(store, "a1", leader=True) == expected
    assert await read(store, "a1", after=third) == expected[3:]
    assert await read(store, "missing") == []
    assert {after for _, after in searches}.isdisjoint((0, third.position))


@pytest.mark.usefixtures("spread", "without_pages")
async def test_reading_needs_no_more_rights_than_in_pages(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await far_apart(store)
    requested: list[str] = []
    request = Client.request

    async def noted(self: Client, subject: str, *args: Any, **options: Any) -> Any:
        requested.append(subject)
        return await request(self, subject, *args, **options)

    monkeypatch.setattr(Client, "request", noted)
    assert len(await read(store, "a1")) == 5
    assert set(requested) == {f"$JS.API.DIRECT.GET.{store.codec.subjects.log_stream}"}


@pytest.mark.usefixtures("spread", "without_pages")
@pytest.mark.parametrize("limit", [None, 1, 2, 4, 5, 6])
async def test_events_far_apart_are_read_backwards_without_a_search(
    client: Client, codec: Codec, store: EventStore, limit: int | None
) -> None:
    await far_apart_again(store)
    await far_apart_again(store)
    async with EventStore(client, codec) as other:
        found = other.read("account", "a1", backwards=True, limit=limit)
        assert [event.version async for event in found] == [6, 5, 4, 3, 2, 1][:limit]
        found = other.read("account", "a1", backwards=True, after=1, until=5, limit=limit)
        assert [event.version async for event in found] == [5, 4, 3, 2][:limit]


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("at", range(4))
async def test_foreign_messages_far_apart_are_skipped_backwards(
    client: Client, codec: Codec, store: EventStore, at: int
) -> None:
    for number in range(4):
        await store.append("account", "a1", Deposited(amount=number))
        await others(store)
        if number == at:
            await forge(client, codec, "a1", 2)
            await others(store)
    async with EventStore(client, codec) as other:
        for limit in (1, 2, 3, None):
            found = other.read("account", "a1", backwards=True, limit=limit)
            assert [event.version async for event in found] == [4, 3, 2, 1][:limit]


@pytest.mark.usefixtures("spread", "without_pages")
async def test_an_aggregates_head_is_found_without_a_search(
    client: Client, codec: Codec, store: EventStore
) -> None:
    await far_apart(store)
    async with EventStore(client, codec) as other:
        assert (await other.append("account", "a1", Deposited(), expected=ANY)).version == 6
        assert (await other.append("account", "a2", Deposited(), expected=2)).version == 3
        with pytest.raises(Conflict):
            await other.append("account", "a3", Deposited(), expected=1)


@pytest.mark.usefixtures("spread", "without_pages")
async def test_an_events_id_is_looked_up_without_a_search(
    client: Client, codec: Codec, store: EventStore
) -> None:
    event = fixed()
    await store.append("account", "a1", [event])
    await far_apart_again(store)
    async with EventStore(client, codec) as other:
        assert (await other.append("account", "a1", [event])).duplicate
        assert not (await other.append("account", "a1", [fixed()])).duplicate


async def far_apart_again(store: EventStore) -> None:
    for _ in range(3):
        await others(store)
        await store.append("account", "a1", Deposited())


@pytest.mark.usefixtures("spread")
@pytest.mark.parametrize("at", range(4))
async def test_foreign_messages_are_found_and_skipped_as_in_pages(
    client: Client, codec: Codec, store: EventStore, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    for number in range(4):
        await store.append("account", "a1", Deposited(amount=number))
        await others(store)
        if number == at:
            await forge(client, codec, "a1", 2)
            await others(store)
    async with EventStore(client, codec) as other:
        found = await read(other, "a1")
        assert [event.version for event in found] == [1, 2, 3, 4]
        assert found == await in_pages(other, monkeypatch)
        assert len(other.findings.by_position("foreign")) == 1


@pytest.mark.usefixtures("spread")
async def test_a_forged_position_hides_no_events(
    client: Client, codec: Codec, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await store.append("account", "a1", Deposited(amount=1))
    await others(store)
    last = await store.append("account", "a1", Deposited(amount=2))
    await others(store)
    # The server compares the first of these, and readers take the last.
    lines = "".join(f"{GUARD}: {each.position}\r\n" for each in (last, first))
    subject, headers = forged(codec, "a1", 2, after=first.head)
    answer = await client.request(subject, b"{}", headers=header_lines(headers) + lines)
    assert b"error" not in answer.data
    found = await read(store, "a1")
    assert [event.data for event in found] == [Deposited(amount=1), Deposited(amount=2)]
    assert found == await in_pages(store, monkeypatch)


async def test_events_close_together_are_read_in_a_page_from_there(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linked_reading, "_FAR", 30)
    first = (await store.append("account", "old", Opened())).position
    await others(store, 40)
    for number in range(6):
        await store.append("account", "a1", Deposited(amount=number))
        await store.append("account", "old", Deposited())
    end = (await store.append("account", "a1", Deposited())).position
    searches = _counted(monkeypatch)
    assert [event.version for event in await read(store, "a1")] == list(range(1, 8))
    assert [event.version for event in await read(store, "old")] == list(range(1, 8))
    assert [after for _, after in searches] == [end - 30, end - 31]
    assert first < end - 31


@pytest.mark.usefixtures("spread")
async def test_many_events_are_read_in_pages(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.append("account", "a1", Opened())
    await others(store)
    for _ in range(20):
        await store.append("account", "a1", [Deposited(), Deposited()])
    searches = _counted(monkeypatch)
    assert len(await read(store, "a1")) == 41
    assert searches[-1][1] == 0


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The subjects that the server is asked to search for, and after which position."""
    searches: list[tuple[str, int]] = []
    pages = DirectReader.pages

    def counted(
        self: DirectReader, subject: str, after: int = 0, **options: Any
    ) -> Pages[StoredMessage]:
        searches.append((subject, after))
        return pages(self, subject, after, **options)

    monkeypatch.setattr(DirectReader, "pages", counted)
    return searches


@pytest.mark.usefixtures("without_pages")
async def test_a_reader_in_the_middle_finds_heads_without_a_search(
    client: Client, codec: Codec, store: EventStore
) -> None:
    for number in range(3):
        for each in ("a1", "a2", "a3"):
            await store.append("account", each, [Deposited(amount=number), Deposited()])
    await store.append("account", "new", Opened())
    async with EventStore(client, codec) as other:
        found = [event async for event in other.read_all(after=7)]
        assert [event.position for event in found] == list(range(8, 20))
        assert other.findings.count("foreign") == 0
