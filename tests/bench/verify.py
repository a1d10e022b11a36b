"""Verifying a complete log: its rate and memory, with very many aggregates."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from eventstore import NO_STREAM, Append, EventStore, connect, declare, load_settings, nix, topology
from eventstore.audit import VerifySummary, verify
from eventstore.client.client import Client
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from tests.bench.cpu import memory
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.store import event

AGGREGATES = sized(50_000, 5_000)
EACH = 4
_AT_ONCE = 250


async def fill(store: EventStore, aggregates: int) -> None:
    """Append `EACH` events to each of so many aggregates, in batches over several of them."""
    for first in range(0, aggregates, _AT_ONCE):
        await store.append_all(
            *(
                Append(
                    aggregate="flake",
                    aggregate_id=f"flake-{number}",
                    events=[event(each) for each in range(EACH)],
                    expected=NO_STREAM,
                )
                for number in range(first, min(first + _AT_ONCE, aggregates))
            )
        )


async def _verify(client: Client, codec: Codec, *, read: bool) -> tuple[VerifySummary, float]:
    summary, began = VerifySummary(), time.perf_counter()
    async with aclosing(verify(client, codec, read=read, summary=summary)) as findings:
        assert [finding async for finding in findings] == []
    return summary, time.perf_counter() - began


async def measure() -> AsyncIterator[Measurement]:
    """A small log, which is also decoded, and a large one."""
    codec = nix.domain().codec
    for aggregates in (AGGREGATES // 10, AGGREGATES):
        with tempfile.TemporaryDirectory() as directory:
            async with EmbeddedServer(Path(directory)) as server:
                settings = load_settings(nats_url=server.url, environ={})
                async with connect(settings) as client, EventStore(client, codec) as store:
                    await declare(client, topology(codec.subjects, settings.streams)[:1])
                    await fill(store, aggregates)
                    before = memory(os.getpid(), peak=True)
                    if aggregates < AGGREGATES:
                        summary, seconds = await _verify(client, codec, read=True)
                        yield Measurement(name="verify --read", rate=summary.events / seconds)
                    summary, seconds = await _verify(client, codec, read=False)
        name = f"verify {summary.events:,} events of {summary.aggregates:,} aggregates"
        more = f"{memory(os.getpid(), peak=True) - before:.0f} MB more than before"
        yield Measurement(name=name, rate=summary.events / seconds, note=more)


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
