"""A process over several aggregates: a command to a flake marks its packages as stale."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select

from eventstore import nix
from eventstore.application import WriteSide, running
from eventstore.application.service import RunningApplication
from eventstore.client.client import Client, Msg
from eventstore.commands import CommandClient, SentCommand
from eventstore.config import ReadModelSettings, Settings, StreamSettings
from eventstore.errors import RequestTimeout
from eventstore.messages.envelope import Envelope, Identity
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Command
from eventstore.nix.stale_packages import stale_packages
from eventstore.projections.feed.feed import Feed
from eventstore.service.tracing import Tracing
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry
from projections import app as shipped
from projections.models import package
from tests.integration.commanding import until
from tests.spans import operation

BOUND = 45.0
PACKAGES = {"p1": "./mine#hello", "p2": "flake:f1#tools", "p3": "./other#hello"}


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        yield


class Commands:
    """The commands that are sent, as seen by a subscriber."""

    def __init__(self) -> None:
        self.seen: list[Envelope] = []

    async def see(self, message: Msg) -> None:
        """Record a command."""
        self.seen.append(Envelope.from_headers(message.headers or {}))

    async def until(self, count: int) -> None:
        """Return when this many were recorded."""

        async def are_seen() -> bool:
            return len(self.seen) >= count

        await until(are_seen)

    def caused(self) -> set[str]:
        """The ids of the commands that another message caused."""
        return {e.identity.id for e in self.seen if e.identity.id != e.identity.correlation_id}


@pytest.fixture
async def commands(client: Client, settings: Settings) -> Commands:
    commands = Commands()
    await client.subscribe(f"{settings.nats.subject_prefix}.cmd.>", commands.see)
    await client.flush()
    return commands


async def recorded(store: EventStore) -> list[RecordedEvent]:
    return [event async for event in store.read_all()]


async def until_stale(store: EventStore, count: int) -> list[RecordedEvent]:
    """All events, as soon as this many packages were marked stale."""

    async def are_stale() -> bool:
        events = await recorded(store)
        return sum(event.type == "PackageMarkedStale" for event in events) >= count

    await until(are_stale)
    return await recorded(store)


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


async def prepared(
    app: WriteSide | RunningApplication, packages: Mapping[str, str] = PACKAGES
) -> None:
    """A flake, and packages built from it and from another."""
    await app.commands.execute(nix.CreateFlake(path="./mine", description=""), "f1")
    for package_id, reference in packages.items():
        build = nix.BuildPackage(flake_ref=reference, attribute="hello")
        await app.commands.execute(build, package_id)


async def test_one_command_has_effects_on_three_aggregates_with_one_correlation(
    settings: Settings, tmp_path: Path, commands: Commands
) -> None:
    read_model = ReadModelSettings(database=str(tmp_path / "read_model.sqlite"))
    named = msgspec.structs.replace(settings, read_model=read_model)
    async with shipped.running(named, directory=tmp_path) as app:
        await prepared(app)
        add = nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")
        outcome = await app.commands.execute(add, "f1", actor="ann")
        events = await until_stale(app.store, 2)
        await commands.until(7)
        await app.wait(events[-1].position, "packages", BOUND)
        query = select(package.c.id, package.c.stale_reason).where(package.c.stale)
        async with app.read_model.engine.connect() as connection:
            rows = (await connection.execute(query.order_by("id"))).all()

        assert tree_of(outcome.command_id, identities(commands.seen, events)) == {
            "AddFlakeInput f1": {
                "FlakeInputAdded f1": {
                    "MarkPackageStale p1": {"PackageMarkedStale p1": {}},
                    "MarkPackageStale p2": {"PackageMarkedStale p2": {}},
                }
            }
        }
        own = [event for event in events if event.correlation_id == outcome.command_id]
        assert {event.envelope.actor for event in own} == {"ann"}
        assert [tuple(row) for row in rows] == [
            ("p1", "flake f1: nixpkgs added"),
            ("p2", "flake f1: nixpkgs added"),
        ]

        await app.commands.execute(nix.BuildPackage(flake_ref="f1", attribute="hello"), "p1")
        await app.commands.execute(nix.UpdateFlake(), "f1")
        await app.commands.execute(nix.RemoveFlakeInput(name="nixpkgs"), "f1")
        marked = [e for e in await until_stale(app.store, 3) if e.type == "PackageMarkedStale"]
    assert [(event.aggregate_id, event.data) for event in marked[2:]] == [
        (
            "p1",
            nix.PackageMarkedStale(reason="flake f1: nixpkgs locked anew", inputs=["nixpkgs"]),
        )
    ]


@asynccontextmanager
async def opened(
    settings: Settings, telemetry: Telemetry = NO_TELEMETRY
) -> AsyncIterator[WriteSide]:
    """A service without read models; the test runs the process."""
    async with (
        WriteSide(nix.domain(), settings, telemetry=telemetry) as app,
        running(Feed(app.client, app.store)),
    ):
        yield app


async def builds_of(flake_id: str, _position: int) -> dict[str, int]:
    return {"p1": 1, "p2": 1} if flake_id == "f1" else {}


class FailingClient(CommandClient):
    """Fails, or hangs, after it has sent its second command."""

    def __init__(self, *arguments: Any, waits: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.reached = asyncio.Event()
        self._waits = waits

    async def send(self, command: Command, *arguments: Any, **options: Any) -> SentCommand:
        sent = await super().send(command, *arguments, **options)
        if sent.aggregate_id == "p2" and not self.reached.is_set():
            self.reached.set()
            if self._waits:
                await asyncio.Event().wait()
            raise RequestTimeout("the answer was lost")
        return sent


@pytest.mark.parametrize("way", ["fails", "dies"])
async def test_a_redelivered_event_sends_no_second_command(
    settings: Settings, commands: Commands, way: str
) -> None:
    forgetful = StreamSettings(duplicate_window_ms=100)
    async with opened(msgspec.structs.replace(settings, streams=forgetful)) as app:
        await prepared(app)
        codec = app.domain.codec
        async with FailingClient(app.client, codec, waits=way == "dies") as failing:
            process = stale_packages(app.client, codec, failing, builds_of)
            process.declared.ack_wait = 0.3
            task = asyncio.create_task(process.run())
            add = nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")
            outcome = await app.commands.execute(add, "f1")
            await failing.reached.wait()
            if way == "dies":
                task.cancel()
                await asyncio.wait([task])
                process = stale_packages(app.client, codec, failing, builds_of)
                process.declared.ack_wait = 0.3
                task = asyncio.create_task(process.run())

            async def is_handled() -> bool:
                return process.handled == 1

            await until(is_handled)
            process.stop()
            await task

        await commands.until(5 + 4)  # both once more
        await until(lambda: is_worked_off(app))
        events = await recorded(app.store)
    assert len(commands.caused()) == 2
    own = [event for event in events if event.correlation_id == outcome.command_id]
    assert [(event.type, event.aggregate_id) for event in own] == [
        ("FlakeInputAdded", "f1"),
        ("PackageMarkedStale", "p1"),
        ("PackageMarkedStale", "p2"),
    ]
    assert {event.causation_id for event in own[1:]} == commands.caused()


async def is_worked_off(app: WriteSide) -> bool:
    stream = app.domain.codec.subjects.command_stream
    state = (await app.client.api(f"STREAM.INFO.{stream}"))["state"]
    return bool(state["messages"] == 0)


async def test_a_package_rebuilt_before_the_command_is_not_marked(
    settings: Settings,
) -> None:
    async with opened(settings) as app:
        await prepared(app, {"p1": "f1", "p2": "f1"})
        await app.commands.execute(nix.BuildPackage(flake_ref="f1", attribute="hello"), "p1")
        async with running(stale_packages(app.client, app.domain.codec, app.commands, builds_of)):
            add = nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")
            await app.commands.execute(add, "f1")
            events = await until_stale(app.store, 1)
            await until(lambda: is_worked_off(app))
        marked = [event for event in await recorded(app.store) if event not in events]
    assert marked == []
    assert [e.aggregate_id for e in events if e.type == "PackageMarkedStale"] == ["p2"]


async def test_the_process_is_one_trace(settings: Settings) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with opened(settings, Tracing(provider)) as app:
        await prepared(app, {"p1": "f1"})
        process = stale_packages(app.client, app.domain.codec, app.commands, one_build_of)
        async with running(process):
            with trace.get_tracer("test", tracer_provider=provider).start_as_current_span("user"):
                add = nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs")
                await app.commands.execute(add, "f1")
            await until_stale(app.store, 1)
            await until(lambda: is_worked_off(app))

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


async def one_build_of(_flake_id: str, _position: int) -> dict[str, int]:
    return {"p1": 1}
