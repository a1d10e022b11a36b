"""One process of `tests.bench.reading`: reads with the revision on its path.

It is run as a file, with another revision's tree first on the path, and so uses only what every
revision has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eventstore import EventStore, connect, load_settings, nix
from eventstore.audit import VerifySummary, verify
from eventstore.client.client import Client
from eventstore.transfer.exporter import export_log

AT_A_TIME = 64
PAGE = 1000


class Reading:
    """What a side can be asked for; each returns how many items it has read."""

    def __init__(self, client: Client, store: EventStore) -> None:
        self._client = client
        self._store = store
        self._inbox = client.new_inbox()

    async def pages(self, _: int) -> int:
        """Decode and check the whole log."""
        return sum([len(page.events) async for page in self._store.pages(max_events=PAGE)])

    async def read_all(self, _: int) -> int:
        """As `pages`, event by event."""
        count = 0
        async for _event in self._store.read_all():
            count += 1
        return count

    async def verify(self, _: int) -> int:
        """Verify the whole log, and decode its events."""
        summary = VerifySummary()
        checked = verify(self._client, self._store.codec, read=True, summary=summary)
        assert [finding async for finding in checked] == []
        return summary.events

    async def export(self, _: int) -> int:
        """Export the whole log to a file."""
        with TemporaryDirectory() as directory:
            to = Path(directory, "log")
            return (await export_log(self._client, self._store.codec.subjects, to)).events

    async def raw(self, _: int) -> int:
        """Count the log's messages as they arrive, with their headers as a dict each."""
        stream, inbox = self._store.codec.subjects.log_stream, self._client.new_inbox()
        config = {"deliver_policy": "all", "ack_policy": "none", "mem_storage": True}
        body = {"stream_name": stream, "config": {"name": "raw", **config}}
        left = (await self._client.api(f"CONSUMER.CREATE.{stream}.raw", body))["num_pending"]
        count, requested = 0, 0
        arrived = asyncio.Event()

        def receive(message: Any) -> None:
            nonlocal count
            count += "Status" not in message.headers
            if count == requested:
                arrived.set()

        subscription = await self._client.listen(inbox, receive)
        try:
            while count < left:
                requested = min(left, count + 4 * PAGE)
                arrived.clear()
                request = json.dumps({"batch": requested - count}).encode()
                await self._client.publish(
                    f"$JS.API.CONSUMER.MSG.NEXT.{stream}.raw", request, reply=inbox
                )
                await arrived.wait()
        finally:
            await subscription.unsubscribe()
            await self._client.api(f"CONSUMER.DELETE.{stream}.raw")
        return count

    async def load(self, count: int) -> int:
        """Load aggregates of ten events."""
        return await self._spread(count, self._load)

    async def _load(self, number: int) -> None:
        found = [event async for event in self._store.read("flake", f"f{number}")]
        assert len(found) == 10

    async def raw_load(self, count: int) -> int:
        """Get the messages of aggregates of ten events, with their headers as a dict each."""
        waiting: dict[str, asyncio.Future[None]] = {}
        subjects = self._store.codec.subjects

        def receive(message: Any) -> None:
            if message.headers.get("Status") == "204":
                waiting[message.subject].set_result(None)

        async def get(number: int) -> None:
            reply = f"{self._inbox}.{number}"
            waiting[reply] = asyncio.get_running_loop().create_future()
            subject = subjects.log("flake", f"f{number}")
            request = {"seq": 1, "next_by_subj": subject, "batch": 256, "max_bytes": 2**23}
            to = f"$JS.API.DIRECT.GET.{subjects.log_stream}"
            await self._client.publish(to, json.dumps(request).encode(), reply=reply)
            await waiting[reply]
            del waiting[reply]

        subscription = await self._client.listen(f"{self._inbox}.*", receive)
        try:
            return await self._spread(count, get)
        finally:
            await subscription.unsubscribe()

    async def _spread(self, count: int, work: Callable[[int], Awaitable[None]]) -> int:
        numbers = iter(range(count))

        async def one_after_another() -> None:
            for number in numbers:
                await work(number)

        await asyncio.gather(*(one_after_another() for _ in range(AT_A_TIME)))
        return count


async def serve(url: str) -> None:
    """Read what the parent says, a line each; answer with items, seconds and seconds of CPU."""
    codec = nix.domain().codec
    settings = load_settings(nats_url=url, environ={})
    async with connect(settings) as client, EventStore(client, codec) as store:
        reading = Reading(client, store)
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            kind, count = json.loads(line)
            cpu, began = time.process_time(), time.perf_counter()
            items = await getattr(reading, kind)(count)
            taken = time.perf_counter() - began, time.process_time() - cpu
            print(json.dumps([items, *taken]), flush=True)


def main() -> None:
    """Serve the parent."""
    factory = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(sys.argv[1]))


if __name__ == "__main__":
    main()
