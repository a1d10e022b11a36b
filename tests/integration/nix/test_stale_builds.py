"""The process of the shipped domain: what changes a flake marks its builds as stale."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from eventstore import Command, Decider, Event, nix
from eventstore.application import WriteSide, running
from eventstore.application.service import RunningApplication
from eventstore.cli.nix.lock_files import LockFileImport, read_files
from eventstore.cli.output.terminal import Terminal
from eventstore.client.client import Client, Msg
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.messages.envelope import Envelope, Identity
from eventstore.messages.events import RecordedEvent
from eventstore.nix.stale_builds import stale_builds
from eventstore.processes import process_runner
from eventstore.projections.feed.feed import Feed
from eventstore.service.tracing import Tracing
from eventstore.store.store import EventStore
from projections import app as shipped
from tests.integration.commanding import until
from tests.spans import operation

INPUT = nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


async def recorded(store: EventStore) -> list[RecordedEvent]:
    return [event async for event in store.read_all()]


async def until_stale(store: EventStore, count: int) -> list[RecordedEvent]:
    """All events, as soon as this many packages were marked stale."""

    async def are_stale() -> bool:
        events = await recorded(store)
        return sum(event.type == "PackageMarkedStale" for event in events) >= count

    await until(are_stale)
    return await recorded(store)


async def build(
    service: WriteSide | RunningApplication, package: str, reference: str, flake: str | None = None
) -> None:
    command = nix.BuildPackage(flake_ref=reference, attribute="hello", flake=flake)
    outcome = await service.commands.execute(command, package)
    assert outcome.status == "success", outcome


Tree = dict[str, "Tree"]


def tree_of(correlation_id: str, messages: Mapping[str, tuple[str, Identity]]) -> Tree:
    """The tree of causes, by names, built from the ids alone."""
    own = [each for each in messages.values() if each[1].correlation_id == correlation_id]
    trees: dict[str, Tree] = {identity.id: {} for _, identity in own}
    roots: Tree = {}
    for name, identity in own:
        is_root = identity.causation_id == identity.id
        parent = roots if is_root else trees[identity.causation_id]
        parent[name] = trees[identity.id]
    return roots


def identities(
    commands: Iterable[Envelope], events: Iterable[RecordedEvent]
) -> dict[str, tuple[str, Identity]]:
    envelopes = [*commands, *(event.envelope for event in events)]
    return {e.identity.id: (f"{e.type} {e.aggregate_id}", e.identity) for e in envelopes}


async def test_one_command_has_effects_on_three_aggregates_with_one_correlation(
    settings: Settings, client: Client, tmp_path: Path
) -> None:
    commands: list[Envelope] = []

    async def see(message: Msg) -> None:
        commands.append(Envelope.from_headers(message.headers or {}))

    await client.subscribe(f"{settings.nats.subject_prefix}.cmd.>", see)
    await client.flush()
    async with shipped.running(settings, directory=tmp_path) as service:
        await service.execute(nix.CreateFlake(path="./mine", description=""), "f1")
        await build(service, "p1", "./mine#hello", "f1")
        await build(service, "p2", "flake:f1#tools")
        await build(service, "p3", "./mine#hello")
        outcome = await service.execute(INPUT, "f1", actor="ann")
        events = await until_stale(service.store, 2)
        await build(service, "p1", "f1")
        await service.execute(nix.UpdateFlake(), "f1")
        later = await until_stale(service.store, 3)
        found = await service.ask(nix.ListPackages(), wait_for=later[-1].position)

    assert tree_of(outcome.command_id, identities(commands, events)) == {
        "AddFlakeInput f1": {
            "FlakeInputAdded f1": {
                "StaleBuildsReacted f1": {
                    "MarkPackageStale p1": {"PackageMarkedStale p1": {}},
                    "MarkPackageStale p2": {"PackageMarkedStale p2": {}},
                }
            }
        }
    }
    own = [event for event in events if event.correlation_id == outcome.command_id]
    assert {event.envelope.actor for event in own} == {"ann"}
    assert {each.id: (each.flake, each.stale_reason) for each in found.items} == {
        "p1": ("f1", "flake f1: nixpkgs locked anew"),
        "p2": ("f1", "flake f1: nixpkgs added"),
        "p3": (None, None),
    }


async def test_builds_from_imported_flakes_are_stale_after_the_import_of_a_changed_lock_file(
    settings: Settings, tmp_path: Path
) -> None:
    files = [Path(shutil.copy(each, tmp_path)) for each in nix.samples()]
    async with shipped.running(settings, directory=tmp_path) as service:
        imports = LockFileImport(service.client, service.domain.codec, service.commands)
        await imports.run(read_files(files), Terminal(stderr=True))
        for file in files:
            flake = nix.import_commands(file)[0].aggregate_id
            await build(service, file.name.partition(".")[0], "./x#hello", flake)
        changed = files[0]
        text = changed.read_text()
        changed.write_text(re.sub(r'"rev": "[0-9a-f]{4}', '"rev": "0000', text))
        assert changed.read_text() != text
        await imports.run(read_files(files), Terminal(stderr=True))
        events = await until_stale(service.store, 1)
        found = await service.ask(nix.ListPackages(stale=True), wait_for=events[-1].position)
    assert [each.id for each in found.items] == [changed.name.partition(".")[0]]


class PackageBuilt(Event, subject="package.built"):
    """As an earlier release recorded it: without its flake."""

    flake_ref: str
    attribute: str
    output_path: str
    build_time_ms: int | None = None


class Build(Command, subject="package.build"):
    flake_ref: str


earlier = Decider("package", initial=int)


@earlier.decides
def built(_builds: int, command: Build) -> PackageBuilt:
    return PackageBuilt(flake_ref=command.flake_ref, attribute="hello", output_path="result")


@earlier.evolves
def counted(builds: int, _event: PackageBuilt) -> int:
    return builds + 1


async def test_a_build_that_an_earlier_release_recorded_is_stale_if_its_reference_has_the_id(
    settings: Settings, tmp_path: Path
) -> None:
    domain = Domain("nix", [nix.flake.flake, earlier])
    async with WriteSide(domain, settings) as release:
        await release.commands.execute(nix.CreateFlake(path="./mine", description=""), "f1")
        for package, reference in {"id": "f1#hello", "path": "./mine#hello"}.items():
            await release.commands.execute(Build(flake_ref=reference), package)
    async with shipped.running(settings, directory=tmp_path) as service:
        await service.execute(INPUT, "f1")
        await until_stale(service.store, 1)
        await build(service, "path", "./mine#hello", "f1")
        await service.execute(nix.UpdateFlake(), "f1")
        events = await until_stale(service.store, 2)
        found = await service.ask(nix.ListPackages(), wait_for=events[-1].position)
    marked = [each.aggregate_id for each in events if each.type == "PackageMarkedStale"]
    assert marked == ["id", "path"], "the one that named a path after its next build"
    assert {each.id: (each.flake, each.builds, each.stale) for each in found.items} == {
        "id": ("f1", 1, True),
        "path": ("f1", 2, True),
    }


async def test_the_process_is_one_trace(settings: Settings) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Tracing(provider)
    async with WriteSide(shipped.domain, settings, telemetry=telemetry) as side:
        process = process_runner(stale_builds, side.client, side.store, side.commands)
        async with running(Feed(side.client, side.store), process):
            await side.commands.execute(nix.CreateFlake(path="./mine", description=""), "f1")
            await build(side, "p1", "f1")
            with trace.get_tracer("test", tracer_provider=provider).start_as_current_span("user"):
                await side.commands.execute(INPUT, "f1")
            await until_stale(side.store, 1)
            await until(lambda: is_worked_off(side))

    spans = {span.context.span_id: span for span in exporter.get_finished_spans() if span.context}
    (user,) = [span for span in spans.values() if span.name == "user"]
    assert user.context is not None
    (last,) = [
        span
        for span in spans.values()
        if operation(span) == "append"
        and (span.attributes or {})["eventstore.aggregate"] == "package"
        and span.context
        and span.context.trace_id == user.context.trace_id
    ]
    path = [operation(last)]
    while last.parent is not None:
        last = spans[last.parent.span_id]
        path.append(operation(last))
    assert path == ["append", "command", "send", "append", "command", "send", "user"]


async def is_worked_off(side: WriteSide) -> bool:
    stream = side.domain.codec.subjects.command_stream
    state = (await side.client.api(f"STREAM.INFO.{stream}"))["state"]
    return bool(state["messages"] == 0)
