"""Export and import of a complete log."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from eventstore import (
    NO_STREAM,
    Append,
    EventStore,
    Settings,
    connect,
    declare,
    load_settings,
    nix,
    topology,
)
from eventstore.client.client import Client
from eventstore.server.embedded import EmbeddedServer
from eventstore.transfer import ExportSummary, ImportSummary, check_file, export_log, import_log
from tests.bench.report import Measurement, collected
from tests.bench.size import sized
from tests.bench.store import event

BATCHES = sized(20, 5)
SINGLE = sized(20_000, 5_000)
_SUBJECTS = nix.domain().codec.subjects


async def _fill(store: EventStore) -> None:
    for batch in range(BATCHES):
        events = [event(number) for number in range(1_000)]
        await store.append("flake", f"batch-{batch}", events, expected=NO_STREAM)
    for number in range(SINGLE // 100):
        for each in range(100):
            single = Append(aggregate="flake", aggregate_id=f"{number}-{each}", events=[event(1)])
            await store.append_all(single)


async def _timed(what: str, work: Awaitable[ExportSummary | ImportSummary]) -> Measurement:
    began, cpu = time.perf_counter(), time.process_time()
    count = (await work).events
    wall, own = time.perf_counter() - began, time.process_time() - cpu
    return Measurement(name=what, rate=count / wall, cpu={"client": own / count * 1e6})


async def _checked(path: Path) -> ExportSummary:
    _, state = await check_file(path)
    return ExportSummary(state.events, 0, state.sums.value)


async def _into_new(client: Client, settings: Settings, path: Path) -> ImportSummary:
    await client.api(f"STREAM.DELETE.{_SUBJECTS.log_stream}")
    return await import_log(client, _SUBJECTS, settings.streams, path)


async def measure() -> AsyncIterator[Measurement]:
    """Each direction."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.gz"
        async with EmbeddedServer(Path(directory) / "nats") as server:
            settings = load_settings(nats_url=server.url, environ={})
            async with connect(settings) as client:
                await declare(client, topology(_SUBJECTS, settings.streams)[:1])
                async with EventStore(client, nix.domain().codec) as store:
                    await _fill(store)
                yield await _timed(
                    "export, half of it in batches", export_log(client, _SUBJECTS, path)
                )
                yield await _timed("check the file", _checked(path))
                imported = _into_new(client, settings, path)
                yield await _timed("import, checked before", imported)


def main() -> list[Measurement]:
    """Run the benchmark."""
    return collected(measure())


if __name__ == "__main__":
    main()
