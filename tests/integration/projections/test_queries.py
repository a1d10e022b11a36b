"""Every query by request and reply on a real server, with rows that a projection worker made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eventstore import EventStore, nix
from eventstore.application import WriteSide, running
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.client.responder import Reply, Request, Responder
from eventstore.config import Settings
from eventstore.errors import (
    AnswerTooLarge,
    InvalidHeader,
    InvalidPayload,
    NoResponders,
    QueryNotFound,
    QueryRefused,
    QueryTimeout,
    ServiceBusy,
)
from eventstore.messages.envelope import Identity, derive_id, new_id
from eventstore.messages.events import RecordedEvent
from eventstore.messages.queries import ListQuery, Query
from eventstore.messages.types import Command
from eventstore.nix import CacheView, ListFlakes, ListModules, SourceItem
from eventstore.projections.database.database import Database
from eventstore.projections.queries.queries import query_answers
from eventstore.projections.queries.waiting import CheckpointPositions
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.store.append import NO_STREAM
from projections import nix_migrations, nix_projections
from projections.queries import nix_queries

BOUND = 20.0
OUTPUT = "/nix/store/a-hello"
CACHE = "https://cache.example.org"


class QueriedService:
    """A running service, and a client that queries it."""

    def __init__(self, app: WriteSide, database: Database, worker: ProjectionWorker) -> None:
        self.client: Client = app.client
        self.store: EventStore = app.store
        self.commands = app.commands
        self.database = database
        self.worker = worker
        self.subjects = app.domain.codec.subjects
        self.queries = QueryClient(app.client, self.subjects)

    async def done(self, aggregate_id: str, *commands: Command) -> int:
        """Execute commands; the position of the last outcome."""
        for command in commands:
            outcome = await self.commands.execute(command, aggregate_id, timeout=BOUND)
            assert outcome.status == "success", outcome
        return outcome.position

    async def raw(
        self, name: str, payload: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[Any, dict[str, str]]:
        """The JSON and the headers of the answer to `flake.get` and the like."""
        subject = self.subjects.query(*name.split("."))
        answer = await self.client.request(subject, payload, headers=headers, timeout=BOUND)
        return json.loads(answer.data), dict(answer.headers or {})

    async def found(self, query: ListQuery[Any], name: str = "id") -> list[Any]:
        return [getattr(item, name) async for item in self.queries.all(query, timeout=BOUND)]


@asynccontextmanager
async def asking(
    settings: Settings, folder: Path, *, max_concurrency: int = 64
) -> AsyncIterator[QueriedService]:
    async with (
        Database(folder / "read_model.sqlite", migrations=nix_migrations()) as database,
        WriteSide(nix.domain(), settings) as app,
    ):
        await database.migrate()
        worker = ProjectionWorker(app.store, database, nix_projections())
        subjects = app.domain.codec.subjects
        positions = CheckpointPositions(database, worker)
        answers = query_answers(database, positions, nix_queries(), subjects)
        responder = Responder(
            app.client, answers, queue=subjects.domain, max_concurrency=max_concurrency
        )
        async with running(worker, responder):
            await responder.ready.wait()
            await app.worker.ready.wait()
            yield QueriedService(app, database, worker)


@pytest.fixture
async def queried(settings: Settings, tmp_path: Path) -> AsyncIterator[QueriedService]:
    async with asking(settings, tmp_path) as queried:
        yield queried


async def filled(queried: QueriedService) -> int:
    """Some of everything; the position of the last event."""
    await queried.done(
        "mine",
        nix.CreateFlake(path="./mine", description="my flake"),
        nix.AddFlakeInput(name="nixpkgs", url="github:NixOS/nixpkgs"),
        nix.AddFlakeInput(name="crane", url="github:ipetkov/crane"),
    )
    await queried.done("other", nix.CreateFlake(path="./other", description="", template="rust"))
    hello = nix.BuildPackage(flake_ref=".", attribute="hello", output_path=OUTPUT)
    await queried.done("hello", hello, nix.CachePackage(cache_url=CACHE))
    await queried.done("bye", nix.BuildPackage(flake_ref=".", attribute="bye"))
    await queried.done("ssh", nix.CreateModule(name="ssh", content="{ }"))
    await queried.done("old", nix.CreateModule(name="old", content="{ }"), nix.DeleteModule())
    await queried.done("patches", nix.CreateOverlay(name="patches", content="final: prev: { }"))
    await queried.done(
        "host",
        nix.CreateConfiguration(name="host", modules=["ssh"], overlays=["patches"]),
        nix.ActivateConfiguration(activation="switch"),
        nix.UpdateConfiguration(modules=["ssh", "web"]),
        nix.ActivateConfiguration(activation="boot"),
        nix.RollbackConfiguration(),
    )
    return await queried.done("spare", nix.CreateConfiguration(name="spare", modules=[]))


async def test_each_of_them_is_answered(queried: QueriedService) -> None:
    end = await filled(queried)
    found: dict[type[Query[Any]], Any] = {}

    async def answer(query: Query[Any]) -> Any:
        answered = await queried.queries.ask(query, wait_for=end, timeout=BOUND)
        assert answered.position == end
        found[type(query)] = answered.data
        return answered.data

    flake = await answer(nix.GetFlake(id="mine"))
    assert (flake.path, flake.description, flake.template) == ("./mine", "my flake", None)
    assert (flake.version, flake.position) == (3, 3)
    assert flake.created_at < flake.updated_at
    listed = await answer(nix.ListFlakes())
    assert listed.items[0] == flake
    assert [item.template for item in listed.items] == [None, "rust"]
    inputs = await answer(nix.GetFlakeInputs(id="mine"))
    assert [(item.name, item.url) for item in inputs.items] == [
        ("crane", "github:ipetkov/crane"),
        ("nixpkgs", "github:NixOS/nixpkgs"),
    ]

    used = (await answer(nix.ListInputs(name="nixpkgs"))).items
    assert [(item.url, item.flake_id, item.path) for item in used] == [
        ("github:NixOS/nixpkgs", "mine", "./mine")
    ]

    package = await answer(nix.GetPackage(id="hello"))
    assert (package.stale, package.stale_reason) == (False, None)
    assert (package.output_path, package.builds, package.cache_url) == (OUTPUT, 1, CACHE)
    assert [item.id for item in (await answer(nix.ListPackages())).items] == ["bye", "hello"]
    status = await answer(nix.GetPackageStatus(id="hello"))
    assert (status.status, status.version) == ("cached", 2)
    assert status.caches == [
        CacheView(
            cache_url=CACHE,
            output_path=OUTPUT,
            is_current=True,
            cached_at=package.cached_at,
            version=2,
            position=package.position,
        )
    ]

    assert (await answer(nix.GetModule(id="ssh"))).content == "{ }"
    assert [item.id for item in (await answer(nix.ListModules())).items] == ["ssh"]
    assert (await answer(nix.GetOverlay(id="patches"))).content == "final: prev: { }"
    (overlay,) = (await answer(nix.ListOverlays())).items
    assert (overlay.name, overlay.deleted) == ("patches", False)

    configuration = await answer(nix.GetConfiguration(id="host"))
    assert (configuration.modules, configuration.overlays) == (["ssh", "web"], ["patches"])
    assert (configuration.current_generation, configuration.last_generation) == (1, 2)
    assert [item.id for item in (await answer(nix.ListConfigurations())).items] == [
        "host",
        "spare",
    ]
    current = await answer(nix.GetCurrentConfiguration(id="host"))
    assert (current.generation, current.activation, current.modules) == (1, "switch", ["ssh"])
    assert current.activated_at < current.current_since == configuration.activated_at
    history = (await answer(nix.GetConfigurationHistory(id="host"))).items
    assert [(item.version, item.change, item.generation) for item in history] == [
        (1, "ConfigurationCreated", None),
        (2, "ConfigurationActivated", 1),
        (3, "ConfigurationUpdated", None),
        (4, "ConfigurationActivated", 2),
        (5, "ConfigurationRolledBack", 1),
    ]
    assert set(found) == set(nix.QUERIES)


async def test_filters(queried: QueriedService) -> None:
    end = await filled(queried)
    await queried.worker.wait(end, BOUND)
    deleted = nix.ListModules(deleted=True)

    for query, ids in (
        (nix.ListFlakes(path="./mine"), ["mine"]),
        (nix.ListFlakes(path_prefix="./o"), ["other"]),
        (nix.ListFlakes(path_prefix="./"), ["mine", "other"]),
        (nix.ListFlakes(path_prefix="%"), []),
        (nix.ListFlakes(input_name="crane"), ["mine"]),
        (nix.ListFlakes(input_url="github:NixOS/nixpkgs"), ["mine"]),
        (nix.ListFlakes(input_name="crane", input_url="github:NixOS/nixpkgs"), []),
        (nix.ListPackages(flake_ref="."), ["bye", "hello"]),
        (nix.ListPackages(flake_ref_prefix="./"), []),
        (nix.ListPackages(attribute="hello"), ["hello"]),
        (nix.ListPackages(cached=True), ["hello"]),
        (nix.ListPackages(cached=False), ["bye"]),
        (deleted, ["old"]),
        (nix.ListModules(deleted=None), ["old", "ssh"]),
        (nix.ListModules(name="ssh"), ["ssh"]),
        (nix.ListModules(name_prefix="s"), ["ssh"]),
        (nix.ListOverlays(name_prefix="S"), []),
        (nix.ListConfigurations(module="web"), ["host"]),
        (nix.ListConfigurations(overlay="patches"), ["host"]),
        (nix.ListConfigurations(overlay="web"), []),
        (nix.ListConfigurations(activated=False), ["spare"]),
        (nix.ListConfigurations(activated=True, name_prefix="h"), ["host"]),
    ):
        assert await queried.found(query) == ids, query
    (item,) = (await queried.queries.ask(deleted)).data.items
    assert isinstance(item, SourceItem)
    assert item.deleted is True


async def test_what_is_not_there_is_not_found(queried: QueriedService) -> None:
    position = await queried.done("spare", nix.CreateConfiguration(name="spare", modules=[]))
    missing: list[tuple[Query[Any], str]] = [
        (nix.GetFlake(id="none"), "flake none"),
        (nix.GetFlakeInputs(id="none"), "flake none"),
        (nix.GetPackage(id="none"), "package none"),
        (nix.GetPackageStatus(id="none"), "package none"),
        (nix.GetModule(id="none"), "module none"),
        (nix.GetOverlay(id="none"), "overlay none"),
        (nix.GetConfiguration(id="none"), "config none"),
        (nix.GetCurrentConfiguration(id="none"), "config none"),
        (nix.GetConfigurationHistory(id="none"), "config none"),
        (nix.GetCurrentConfiguration(id="spare"), "current generation of config spare"),
    ]
    for query, what in missing:
        with pytest.raises(QueryNotFound, match=f"^there is no {what}"):
            await queried.queries.ask(query, wait_for=position, timeout=BOUND)


async def test_json_goes_in_and_comes_out(queried: QueriedService) -> None:
    end = await queried.done("mine", nix.CreateFlake(path="./mine", description=""))
    wait = {"X-Wait-Position": str(end)}

    data, headers = await queried.raw("flake.get", b'{"id": "mine"}', wait)
    assert list(data) == [
        *("id", "path", "description", "template"),
        *("version", "position", "created_at", "updated_at"),
    ]
    assert data["created_at"].endswith("Z")
    assert headers == {"Content-Type": "application/json", "X-Position": str(end)}
    listed, _ = await queried.raw("flake.list")
    assert listed == {"items": [data], "next": None}


async def test_a_reply_belongs_to_the_trace_of_its_query(queried: QueriedService) -> None:
    own, correlation = new_id(), new_id()
    ids = {"X-Event-ID": own, "X-Correlation-ID": correlation}
    for payload in (b"", b"{"):
        _, headers = await queried.raw("flake.list", payload, ids)
        assert headers["X-Correlation-ID"] == correlation
        assert headers["X-Causation-ID"] == own
        assert headers["X-Event-ID"] == derive_id(own, "answer")
    _, headers = await queried.raw("flake.list", b"", {"X-Event-ID": own})
    assert headers["X-Correlation-ID"] == headers["X-Causation-ID"] == own
    refused, headers = await queried.raw("flake.list", b"", {"X-Correlation-ID": "mine"})
    assert refused["code"] == "invalid_header"
    assert "header X-Correlation-ID is 'mine', not a UUID" in refused["message"]
    assert "X-Correlation-ID" not in headers


async def test_a_client_reads_its_own_writes(queried: QueriedService) -> None:
    async def write_and_read(number: int) -> None:
        name = f"f{number}"
        position = await queried.done(name, nix.CreateFlake(path=name, description=""))
        answer = await queried.queries.ask(nix.GetFlake(id=name), wait_for=position, timeout=BOUND)
        assert answer.data.path == name
        assert answer.position >= position

    await asyncio.gather(*(write_and_read(number) for number in range(20)))


async def test_a_position_that_is_not_reached_is_a_timeout(queried: QueriedService) -> None:
    with pytest.raises(QueryTimeout, match="at position 0, not at 99, after"):
        await queried.queries.ask(ListFlakes(), wait_for=99, timeout=2.5)
    refused, _ = await queried.raw(
        "flake.list", b"", {"X-Wait-Position": "99", "X-Wait-Timeout": "20"}
    )
    assert (refused["status"], refused["code"]) == ("error", "timeout")
    refused, _ = await queried.raw("flake.list", b"", {"X-Wait-Position": "soon"})
    assert refused["code"] == "invalid_header"


def fold(events: Sequence[RecordedEvent], position: int) -> dict[str, tuple[int, int]]:
    """Version and position of each flake when the log ended at `position`."""
    return {
        event.aggregate_id: (event.version, event.position)
        for event in events
        if event.position <= position
    }


async def test_every_answer_is_the_fold_of_the_log_at_its_position(queried: QueriedService) -> None:
    """While events are appended as fast as possible, several to one flake."""
    answers = []
    appending = True

    async def append(number: int) -> None:
        name = f"f{number}"
        created = nix.FlakeCreated(path=name, description="")
        await queried.store.append("flake", name, created, expected=NO_STREAM)
        for version in range(2, 30):
            added = nix.FlakeInputAdded(name=f"i{version}", url="u")
            await queried.store.append("flake", name, added, expected=version - 1)

    async def read() -> None:
        while appending:
            answers.append(await queried.queries.ask(ListFlakes(limit=100), timeout=BOUND))

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(*(append(number) for number in range(6)))
    appending = False
    await asyncio.gather(*readers)

    events = [event async for event in queried.store.read_all()]
    final = await queried.queries.ask(ListFlakes(), wait_for=events[-1].position, timeout=BOUND)
    for answer in (*answers, final):
        rows = {item.id: (item.version, item.position) for item in answer.data.items}
        assert rows == fold(events, answer.position)
    assert len({answer.position for answer in answers}) > 1


async def test_the_client_goes_through_all_parts(queried: QueriedService) -> None:
    for number in range(7):
        end = await queried.done(f"m{number}", nix.CreateModule(name="same", content="x"))
    ids = [f"m{number}" for number in range(7)]
    for limit in (1, 3, 7, 50):
        query = ListModules(limit=limit)
        found = [item.id async for item in queried.queries.all(query, wait_for=end, timeout=BOUND)]
        assert found == ids
    sizes = [len(part.data.items) async for part in queried.queries.parts(ListModules(limit=3))]
    assert sizes == [3, 3, 1]


async def test_a_reply_that_is_too_large_is_refused_and_requested_in_smaller_pages(
    queried: QueriedService,
) -> None:
    long = "x" * 300_000  # of which three fit into one message
    for number in range(5):
        end = await queried.done(f"f{number}", nix.CreateFlake(path="p", description=long))

    with pytest.raises(AnswerTooLarge, match=r"maximum payload is 1,048,576, .* smaller limit"):
        await queried.queries.ask(ListFlakes(), wait_for=end, timeout=BOUND)
    assert await queried.found(ListFlakes()) == [f"f{number}" for number in range(5)]
    assert len((await queried.queries.ask(ListFlakes(limit=2))).data.items) == 2


async def test_bad_input_is_refused_by_name(queried: QueriedService) -> None:
    for payload, named in (
        (b'{"lmit": 5}', "lmit"),
        (b'{"limit": 0}', "$.limit"),
        (b'{"limit": 1001}', "$.limit"),
        (b'{"limit": true}', "$.limit"),
        (b'{"path": 5}', "$.path"),
        (b'{"path": "\\u0000"}', "$.path"),
        (b'{"after": "bm9uc2Vuc2U"}', "after"),
        (b'{"' + b"x" * 900_000 + b'": 1}', "xxx"),
        (b"\xff\x00garbage", "ListFlakes"),
    ):
        refused, headers = await queried.raw("flake.list", payload)
        assert (refused["status"], refused["code"]) == ("error", "invalid_payload")
        assert named in refused["message"]
        assert headers["Nats-Service-Error-Code"] == "invalid_payload"
        assert "X-Position" not in headers
    assert (await queried.raw("flake.list"))[0] == {"items": [], "next": None}


async def test_one_that_waits_for_a_position_takes_no_others_turn(
    settings: Settings, tmp_path: Path
) -> None:
    async with asking(settings, tmp_path, max_concurrency=1) as queried:
        waiting = asyncio.create_task(
            queried.queries.ask(ListFlakes(), wait_for=1_000_000, timeout=2)
        )
        await asyncio.sleep(0)  # it has been sent first
        assert (await queried.queries.ask(ListFlakes(), timeout=BOUND)).data.items == []
        assert not waiting.done()
        with pytest.raises(QueryTimeout):
            await waiting


async def test_a_busy_service_replies_so(client: Client, domain_name: str) -> None:
    async def answer(_request: Request) -> Reply:
        raise ServiceBusy("ask again later")

    subjects = nix.domain(domain_name).codec.subjects
    responder = Responder(client, {subjects.query("flake", "list"): answer}, queue="q")
    async with running(responder):
        await responder.ready.wait()
        with pytest.raises(ServiceBusy, match="ask again later"):
            await QueryClient(client, subjects).ask(ListFlakes())


async def test_a_cursor_of_another_list_is_refused(queried: QueriedService) -> None:
    for name in ("a", "b"):
        end = await queried.done(name, nix.CreateModule(name=name, content=""))
        await queried.done(name, nix.CreateOverlay(name=name, content=""))
    part = await queried.queries.ask(ListModules(limit=1), wait_for=end, timeout=BOUND)
    for other in (
        nix.ListOverlays(after=part.data.next),
        ListModules(after=part.data.next, name_prefix="a"),
        ListModules(after=part.data.next, deleted=None),
    ):
        with pytest.raises(QueryRefused, match="not a cursor of this list") as caught:
            await queried.queries.ask(other)
        assert caught.value.code == "invalid_payload"


async def test_an_invalid_query_is_not_sent(client: Client, domain_name: str) -> None:
    queries = QueryClient(client, nix.domain(domain_name).codec.subjects)
    with pytest.raises(InvalidPayload, match=r"query GetFlake: .*\$\.id"):
        await queries.ask(nix.GetFlake(id="a.b"))
    with pytest.raises(NoResponders):
        await queries.ask(nix.GetFlake(id="a"))


@asynccontextmanager
async def answering(client: Client, subject: str, reply: Reply) -> AsyncIterator[list[Request]]:
    requests: list[Request] = []

    async def answer(request: Request) -> Reply:
        requests.append(request)
        return reply

    responder = Responder(client, {subject: answer}, queue="q")
    async with running(responder):
        await responder.ready.wait()
        yield requests


async def test_the_client_sends_the_whole_envelope(client: Client, domain_name: str) -> None:
    subjects = nix.domain(domain_name).codec.subjects
    queries = QueryClient(client, subjects)
    cause = Identity.root()
    reply = Reply(b'{"items": [], "next": null, "newer": 1}', {"X-Position": "7"})
    async with answering(client, subjects.query("flake", "list"), reply) as requests:
        answer = await queries.ask(ListFlakes(), cause=cause, actor="ann", wait_for=5, timeout=10)
    assert (answer.data.items, answer.position) == ([], 7)
    headers = requests[0].headers
    assert headers["X-Event-Type"] == "ListFlakes"
    assert (headers["X-Correlation-ID"], headers["X-Causation-ID"]) == (cause.id, cause.id)
    assert (headers["X-Domain"], headers["X-Actor"]) == (domain_name, "ann")
    assert (headers["X-Wait-Position"], headers["X-Wait-Timeout"]) == ("5", "8000")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(b"{}", {"X-Position": "1"}), InvalidPayload),
        (Reply(b"\xff", {"X-Position": "1"}), InvalidPayload),
        (Reply(b'{"items": []}'), InvalidHeader),
        (Reply(b"not JSON", {"Nats-Service-Error": "no"}), QueryRefused),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    client: Client, domain_name: str, reply: Reply, error: type[Exception]
) -> None:
    subjects = nix.domain(domain_name).codec.subjects
    async with answering(client, subjects.query("flake", "list"), reply):
        with pytest.raises(error):
            await QueryClient(client, subjects).ask(ListFlakes())
