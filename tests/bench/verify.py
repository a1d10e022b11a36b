"""Verifying a complete log: its rate and memory, with very many aggregates."""

from __future__ import annotations

import resource
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from eventstore import NO_STREAM, Append, EventStore, connect, declare, load_settings, nix, topology
from eventstore.audit import VerifySummary, verify
from eventstore.client.client import Client
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from tests.bench.loop import run
from tests.bench.store import event

AGGREGATES = 50_000
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


def _peak() -> float:
    """This process's peak memory in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure() -> None:
    """Print a line for a small log, which is also decoded, and for a large one."""
    codec = nix.domain().codec
    for aggregates in (AGGREGATES // 10, AGGREGATES):
        with tempfile.TemporaryDirectory() as directory:
            async with EmbeddedServer(Path(directory)) as server:
                settings = load_settings(nats_url=server.url, environ={})
                async with connect(settings) as client, EventStore(client, codec) as store:
                    await declare(client, topology(codec.subjects, settings.streams)[:1])
                    await fill(store, aggregates)
                    before = _peak()
                    if aggregates < AGGREGATES:
                        summary, seconds = await _verify(client, codec, read=True)
                        what = f"verify --read {summary.events:,} events"
                        print(f"{what:48} {summary.events / seconds:10,.0f}/s")
                    summary, seconds = await _verify(client, codec, read=False)
        what = f"verify {summary.events:,} events of {summary.aggregates:,} aggregates"
        more = f"{_peak() - before:.0f} MB more than the {before:.0f} MB before"
        print(f"{what:48} {summary.events / seconds:10,.0f}/s   {more}")


def main() -> None:
    """Run the benchmark."""
    run(measure())


if __name__ == "__main__":
    main()
