"""Key-value buckets: reads, compare-and-set, deletion and watches."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from nats.js.kv import KeyValue as PlainBucket

from eventstore.client.client import Client, connect
from eventstore.errors import JetStreamError, NoResponders, StreamMissing
from eventstore.jetstream.key_value import DELETED, KeyValue
from eventstore.jetstream.vocabulary import ErrorCode, NatsHeader
from tests.conftest import settings_for
from tests.integration.ledger import jetstream
from tests.proxy import TcpProxy


async def declare(client: Client, bucket: str, **settings: Any) -> KeyValue:
    config = {
        "name": f"KV_{bucket}",
        "subjects": [f"$KV.{bucket}.>"],
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        **settings,
    }
    await client.api(f"STREAM.CREATE.KV_{bucket}", config)
    return KeyValue(client, bucket)


@pytest.fixture
async def bucket(client: Client, domain_name: str) -> KeyValue:
    return await declare(client, f"{domain_name}-some")


@pytest.fixture
async def plain(client: Client, bucket: KeyValue) -> PlainBucket:
    """The same bucket, by NATS's own client."""
    return await jetstream(client).key_value(bucket.bucket)


async def test_what_is_put_is_found_by_either_read_and_by_a_plain_client(
    bucket: KeyValue, plain: PlainBucket
) -> None:
    assert await bucket.get("a.b") is None
    assert await bucket.leader_get("a.b") is None
    assert await bucket.put("a.b", b"1") == 1
    assert await bucket.put("a.b", b"2", {"X": "y"}) == 2
    for entry in (await bucket.get("a.b"), await bucket.leader_get("a.b")):
        assert entry is not None
        assert (bucket.key(entry.subject), entry.sequence, entry.payload) == ("a.b", 2, b"2")
        assert entry.headers["X"] == "y"
    assert (await plain.get("a.b")).value == b"2"
    await plain.put("a.c", b"3")
    last = await bucket.leader_get("*.*")
    assert last is not None
    assert bucket.key(last.subject) == "a.c"


async def test_a_deleted_key_is_an_empty_entry_whoever_deletes_it(
    bucket: KeyValue, plain: PlainBucket
) -> None:
    for key in ("a", "b", "c"):
        await bucket.put(key, b"1")
    await bucket.put("a", None, {"X": "y"})
    assert await bucket.update("b", None, 2) == 5
    await plain.delete("c")
    entries = [await bucket.get(key) for key in ("a", "b", "c")]
    assert [
        entry and (entry.payload, entry.headers[NatsHeader.KV_OPERATION]) for entry in entries
    ] == [(b"", DELETED)] * 3
    assert entries[0] is not None
    assert entries[0].headers["X"] == "y"


async def test_of_writers_at_the_same_revision_one_succeeds(bucket: KeyValue) -> None:
    for revision in (0, 1):
        tried = [bucket.update("a", b"%d" % number, revision) for number in range(8)]
        revisions = await asyncio.gather(*tried)
        assert sorted(each for each in revisions if each is not None) == [revision + 1]
    await bucket.put("a", None)
    assert await bucket.update("a", b"x", 0) is None
    assert await bucket.update("a", b"x", 3) == 4


async def test_a_write_that_is_refused_for_another_reason_is_an_error(
    client: Client, domain_name: str
) -> None:
    bucket = await declare(client, f"{domain_name}-full", max_msgs=1, discard="new")
    await bucket.put("a", b"1")
    with pytest.raises(JetStreamError) as refused:
        await bucket.update("b", b"1", 0)
    assert refused.value.err_code == ErrorCode.STREAM_STORE_FAILED


async def test_both_scans_find_every_entry_once_in_order(bucket: KeyValue) -> None:
    for key in ("a", "b", "a", "c.d"):
        await bucket.put(key, b"x")

    async with aclosing(bucket.entries()) as entries:
        assert [entry.sequence async for entry in entries] == [2, 3, 4]
    async with aclosing(bucket.leader_entries("*")) as entries:
        assert [entry.sequence async for entry in entries] == [2, 3]
    async with aclosing(bucket.leader_entries()) as entries:
        seen = []
        async for entry in entries:
            await bucket.put("later", b"x")
            seen.append(entry.sequence)
    assert seen == [2, 3, 4]


async def test_an_erased_entry_is_gone_and_erasing_it_again_does_nothing(bucket: KeyValue) -> None:
    revision = await bucket.put("a", b"1")
    await bucket.erase(revision)
    await bucket.erase(revision)
    assert await bucket.get("a") is None
    assert (await bucket.info()).state.messages == 0


async def test_a_bucket_that_does_not_exist_is_named(client: Client, domain_name: str) -> None:
    bucket = KeyValue(client, f"{domain_name}-none")

    async def scan() -> object:
        return [entry async for entry in bucket.entries()]

    for asking in (bucket.info, lambda: bucket.leader_get("a"), scan):
        with pytest.raises(StreamMissing, match=bucket.stream):
            await asking()
    with pytest.raises(NoResponders, match=bucket.stream):
        await bucket.get("a")
    with pytest.raises(NoResponders, match="declare the topology"):
        await bucket.update("a", b"", 0)


async def test_changes_are_reported_until_the_watch_ends_and_a_reconnect_as_well(
    client: Client, bucket: KeyValue
) -> None:
    seen: asyncio.Queue[tuple[str, bytes] | None] = asyncio.Queue()
    async with TcpProxy(client) as proxy, connect(settings_for(proxy.url)) as watching:
        stop = await KeyValue(watching, bucket.bucket).watch(
            lambda key, value: seen.put_nowait((key, value)),
            lambda: seen.put_nowait(None),
            keys="*",
        )
        await watching.flush()
        async with asyncio.timeout(20):
            await bucket.put("a", b"1")
            await bucket.put("not.watched", b"1")
            await bucket.put("a", None)
            assert [await seen.get(), await seen.get()] == [("a", b"1"), ("a", b"")]
            proxy.cut()
            assert await seen.get() is None
        await stop()
        await watching.flush()
        await bucket.put("a", b"2")
        await watching.flush()
    assert seen.empty()
