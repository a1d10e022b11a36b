"""The service endpoints, requested by a plain nats-py client."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client as PlainClient
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from eventstore import nix
from eventstore.client.client import Client, connect
from eventstore.config import ServiceIdentity
from eventstore.errors import ConfigurationError, ConnectionLost, EventStoreError
from eventstore.messages.codec import Codec
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.discovery import ANNOUNCEMENTS, Announcement, Endpoint, discover
from eventstore.service.endpoints import INSTANCE_ID, ServiceEndpoints
from eventstore.service.health import CheckResult, Health, HealthReport
from eventstore.service.metrics import Metrics
from eventstore.service.micro import endpoint_stats
from tests.conftest import settings_for

BOUND = 45.0
DEEP = b'{"a":' * 100_000


@pytest.fixture
def codec(domain_name: str) -> Codec:
    return nix.domain(domain_name).codec


@pytest.fixture
def named(domain_name: str) -> ServiceIdentity:
    """A service of the test's own, on the shared server."""
    return ServiceIdentity(name=f"svc-{domain_name}", version="1.2.3", description="for a test")


@pytest.fixture
async def plain(nats_server: EmbeddedServer) -> AsyncIterator[PlainClient]:
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


class AdjustableCheck:
    """A check whose finding can be changed."""

    def __init__(self) -> None:
        self.finding = CheckResult()

    async def __call__(self) -> CheckResult:
        return self.finding


@pytest.fixture
def adjustable() -> AdjustableCheck:
    return AdjustableCheck()


@pytest.fixture
def health(named: ServiceIdentity, adjustable: AdjustableCheck) -> Health:
    return Health(named.name, named.version, {"adjustable": adjustable}, cache_ttl=0.0)


@asynccontextmanager
async def running(service_endpoints: ServiceEndpoints) -> AsyncIterator[ServiceEndpoints]:
    async with asyncio.timeout(BOUND), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service_endpoints.run())
        ready = asyncio.create_task(service_endpoints.ready.wait())
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        yield service_endpoints
        service_endpoints.stop()


@pytest.fixture
async def service_endpoints(
    client: Client, codec: Codec, health: Health, named: ServiceIdentity
) -> AsyncIterator[ServiceEndpoints]:
    subjects = [codec.subjects.query("flake", "get"), codec.subjects.query("flake", "list")]
    queries = [endpoint_stats(subject, named.name) for subject in subjects]
    metrics = Metrics(service=named.name, version=named.version)
    service_endpoints = ServiceEndpoints(
        client, codec, health, named, queries=lambda: queries, metrics=metrics
    )
    async with running(service_endpoints):
        yield service_endpoints


async def ask(plain: PlainClient, subject: str, payload: bytes = b"") -> Msg:
    return await plain.request(subject, payload, timeout=BOUND)


async def answers(plain: PlainClient, subject: str, count: int) -> list[dict[str, Any]]:
    """The first so many answers to one request."""
    inbox = plain.new_inbox()
    subscription = await plain.subscribe(inbox)
    await plain.publish(subject, reply=inbox)
    return [json.loads((await subscription.next_msg(BOUND)).data) for _ in range(count)]


async def announcements(plain: PlainClient, service: str) -> AsyncIterator[Announcement]:
    subscription = await plain.subscribe(ANNOUNCEMENTS)
    await plain.flush()

    async def heard() -> AsyncIterator[Announcement]:
        while True:
            message = await subscription.next_msg(BOUND)
            announcement = msgspec.json.decode(message.data, type=Announcement)
            if announcement.service == service:
                yield announcement

    return heard()


async def test_health_is_answered_by_service_and_by_domain(
    plain: PlainClient,
    service_endpoints: ServiceEndpoints,
    named: ServiceIdentity,
    domain_name: str,
) -> None:
    for subject in (f"health.{named.name}", f"health.{domain_name}"):
        answer = await ask(plain, subject)
        report = json.loads(answer.data)
        assert set(report) == {"status", "service", "version", "timestamp", "details"}
        assert (report["status"], report["service"]) == ("healthy", named.name)
        assert report["version"] == "1.2.3"
        assert report["details"]["adjustable"] == {"status": "healthy"}
        assert answer.headers is not None
        assert answer.headers[INSTANCE_ID] == service_endpoints.instance_id
        assert answer.headers["Content-Type"] == "application/json"


async def test_ill_health_is_a_report_and_no_error(
    plain: PlainClient,
    service_endpoints: ServiceEndpoints,
    named: ServiceIdentity,
    adjustable: AdjustableCheck,
) -> None:
    adjustable.finding = CheckResult(status="unhealthy", problem="it hurts")

    answer = await ask(plain, f"health.{named.name}", b"{}")

    report = HealthReport.from_json(answer.data)
    assert (report.status, report.problems) == ("unhealthy", {"adjustable": "it hurts"})
    assert "Nats-Service-Error" not in (answer.headers or {})


async def test_discovery_lists_commands_queries_and_endpoints(
    plain: PlainClient, service_endpoints: ServiceEndpoints, named: ServiceIdentity, codec: Codec
) -> None:
    answer = await ask(plain, f"discovery.{named.name}")

    announced = msgspec.json.decode(answer.data, type=Announcement)
    assert (announced.service, announced.version, announced.description) == (
        named.name,
        "1.2.3",
        "for a test",
    )
    assert (announced.instance_id, announced.domain) == (
        service_endpoints.instance_id,
        codec.domain,
    )
    assert (announced.status, announced.interval_seconds) == ("online", 30.0)
    types = [cls.__name__ for cls in codec.command_types]
    assert announced.capabilities == (*types, "flake.get", "flake.list")
    create = Endpoint(
        subject=f"{codec.domain}.cmd.flake.create", kind="command", type="CreateFlake"
    )
    assert announced.endpoints[0] == create
    assert [each.subject for each in announced.endpoints if each.kind == "query"] == [
        f"{codec.domain}.query.flake.get",
        f"{codec.domain}.query.flake.list",
    ]
    assert [each.subject for each in announced.endpoints if each.kind == "service"] == [
        f"health.{named.name}",
        f"health.{codec.domain}",
        f"discovery.{named.name}",
        f"discovery.{codec.domain}",
        f"metrics.{codec.domain}",
    ]


async def test_discovery_by_domain_is_the_same_with_the_seeds_names(
    plain: PlainClient, service_endpoints: ServiceEndpoints, named: ServiceIdentity, codec: Codec
) -> None:
    announced = json.loads((await ask(plain, f"discovery.{codec.domain}")).data)

    assert announced["name"] == announced["service"] == named.name
    seed = {"name", "version", "instance_id", "description", "capabilities", "endpoints"}
    assert announced.keys() > {*seed, "timestamp"}


async def test_metrics_are_answered_in_prometheus_text(
    plain: PlainClient,
    service_endpoints: ServiceEndpoints,
    named: ServiceIdentity,
    domain_name: str,
) -> None:
    answer = await ask(plain, f"metrics.{domain_name}")

    assert answer.headers is not None
    assert answer.headers["Content-Type"] == Metrics.content_type
    text = answer.data.decode()
    assert f'eventstore_service_info{{service="{named.name}",version="1.2.3"}} 1.0' in text
    assert "# TYPE eventstore_commands_total counter" in text


async def test_without_metrics_the_reply_is_an_error(
    plain: PlainClient, client: Client, codec: Codec, health: Health, named: ServiceIdentity
) -> None:
    async with running(ServiceEndpoints(client, codec, health, named)):
        answer = await ask(plain, f"metrics.{codec.domain}")

    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error-Code"] == "501"
    assert answer.headers["Nats-Service-Error"] == "this service has no metrics"


@pytest.mark.parametrize(
    "payload", [b"nonsense", b"[]", b'"x"', b"\xff\xfe", b"{", b"[" * 100_000, DEEP]
)
async def test_a_bad_request_is_answered_with_an_error_and_counted(
    plain: PlainClient, service_endpoints: ServiceEndpoints, named: ServiceIdentity, payload: bytes
) -> None:
    for subject in (f"health.{named.name}", f"discovery.{named.name}"):
        answer = await ask(plain, subject, payload)
        assert answer.headers is not None
        assert answer.headers["Nats-Service-Error-Code"] == "400"
        assert "neither empty nor a JSON object" in answer.headers["Nats-Service-Error"]

    stats = ServiceStats.from_dict(json.loads((await ask(plain, f"$SRV.STATS.{named.name}")).data))
    assert [endpoint.num_errors for endpoint in stats.endpoints] == [1, 0, 1, 0, 0, 0, 0]
    assert (await ask(plain, f"health.{named.name}", b'{"any": 1}')).headers is not None


async def test_an_error_with_several_lines_fits_in_its_header(
    plain: PlainClient,
    client: Client,
    codec: Codec,
    named: ServiceIdentity,
) -> None:
    class BrokenHealth(Health):
        async def report(self) -> HealthReport:
            raise EventStoreError("one\r\ntwo\n three")

    async with running(ServiceEndpoints(client, codec, BrokenHealth("s", "1.0.0", {}), named)):
        answer = await ask(plain, f"health.{named.name}")

    assert answer.headers is not None
    assert answer.headers["Nats-Service-Error"] == "one two three"
    assert answer.headers["Nats-Service-Error-Code"] == "503"


async def test_a_request_without_reply_subject_is_harmless(
    plain: PlainClient,
    service_endpoints: ServiceEndpoints,
    named: ServiceIdentity,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for payload in (b"", b"nonsense"):
        await plain.publish(f"health.{named.name}", payload)
    assert (await ask(plain, f"health.{named.name}")).data
    assert caplog.records == []


async def test_the_service_speaks_nats_micro(
    plain: PlainClient, service_endpoints: ServiceEndpoints, named: ServiceIdentity, codec: Codec
) -> None:
    for name in (named.name, f"{named.name}.{service_endpoints.instance_id}"):
        ping = ServicePing.from_dict(json.loads((await ask(plain, f"$SRV.PING.{name}")).data))
        assert (ping.name, ping.id, ping.version) == (
            named.name,
            service_endpoints.instance_id,
            "1.2.3",
        )

    info = ServiceInfo.from_dict(json.loads((await ask(plain, f"$SRV.INFO.{named.name}")).data))
    assert info.description == "for a test"
    assert [endpoint.subject for endpoint in info.endpoints] == [
        f"health.{named.name}",
        f"health.{codec.domain}",
        f"discovery.{named.name}",
        f"discovery.{codec.domain}",
        f"metrics.{codec.domain}",
        f"{codec.domain}.query.flake.get",
        f"{codec.domain}.query.flake.list",
    ]
    assert info.metadata["domain"] == codec.domain
    assert f"{codec.domain}.cmd.flake.create" in info.metadata["commands"].split(",")
    assert info.metadata["queries"].split(",")[0] == f"{codec.domain}.query.flake.get"

    await ask(plain, f"health.{named.name}")
    stats = ServiceStats.from_dict(json.loads((await ask(plain, f"$SRV.STATS.{named.name}")).data))
    assert stats.endpoints[0].num_requests == 1
    assert stats.endpoints[0].processing_time > 0


async def test_every_instance_answers_for_itself(
    plain: PlainClient,
    client: Client,
    codec: Codec,
    health: Health,
    named: ServiceIdentity,
    service_endpoints: ServiceEndpoints,
) -> None:
    async with running(ServiceEndpoints(client, codec, health, named)) as second:
        announced = await answers(plain, f"discovery.{named.name}", 2)
        assert len(await answers(plain, f"health.{named.name}", 2)) == 2

    assert {each["instance_id"] for each in announced} == {
        service_endpoints.instance_id,
        second.instance_id,
    }


async def test_it_announces_itself_at_start_at_an_interval_and_says_goodbye(
    plain: PlainClient, client: Client, codec: Codec, health: Health, named: ServiceIdentity
) -> None:
    heard = await announcements(plain, named.name)
    service_endpoints = ServiceEndpoints(client, codec, health, named, announce_interval=0.01)

    async with running(service_endpoints):
        announced = [await anext(heard) for _ in range(3)]
    while (last := await anext(heard)).status == "online":
        announced.append(last)

    assert {each.instance_id for each in (*announced, last)} == {service_endpoints.instance_id}
    assert {each.interval_seconds for each in announced} == {0.01}
    assert [each.timestamp for each in announced] == sorted(each.timestamp for each in announced)
    assert last.status == "offline"
    with pytest.raises(NoRespondersError):
        await ask(plain, f"health.{named.name}")


async def test_a_cancelled_service_says_goodbye_too(
    plain: PlainClient, client: Client, codec: Codec, health: Health, named: ServiceIdentity
) -> None:
    heard = await announcements(plain, named.name)
    task = asyncio.create_task(ServiceEndpoints(client, codec, health, named).run())
    assert (await anext(heard)).status == "online"

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, BOUND)

    assert (await anext(heard)).status == "offline"


async def test_health_is_checked_without_requests_too(
    client: Client, codec: Codec, named: ServiceIdentity
) -> None:
    looked = asyncio.Event()

    async def look() -> CheckResult:
        looked.set()
        return CheckResult()

    health = Health(named.name, named.version, {"looked": look})
    async with running(ServiceEndpoints(client, codec, health, named, sample_interval=0.01)):
        await asyncio.wait_for(looked.wait(), BOUND)


class LogWatch(logging.Handler):
    """Hears when something is logged that begins with a text."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self.event = asyncio.Event()
        self._start = start

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self._start):
            self.event.set()


async def test_it_continues_after_a_reconnect(
    server: EmbeddedServer, codec: Codec, health: Health, named: ServiceIdentity
) -> None:
    warned = LogWatch(f"service {named.name}: ")
    logging.getLogger("eventstore").addHandler(warned)
    async with connect(settings_for(server.url)) as client:
        service_endpoints = ServiceEndpoints(client, codec, health, named, announce_interval=0.01)
        async with running(service_endpoints):
            await server.stop()
            await warned.event.wait()
            await server.start()
            await client.wait_connected(BOUND)
            async with connect(settings_for(server.url)) as other:
                (found,) = await discover(other, BOUND, count=1)
    logging.getLogger("eventstore").removeHandler(warned)
    assert found.instance_id == service_endpoints.instance_id


async def test_it_ends_with_the_connection(
    server: EmbeddedServer, codec: Codec, health: Health, named: ServiceIdentity
) -> None:
    async with connect(settings_for(server.url)) as client:
        service_endpoints = ServiceEndpoints(client, codec, health, named, announce_interval=0.01)
        task = asyncio.create_task(service_endpoints.run())
        await asyncio.wait_for(service_endpoints.ready.wait(), BOUND)
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(task, BOUND)


@pytest.mark.parametrize("version", ["01.2.3", "1.2.3-a_b"])
async def test_a_version_that_nats_micro_does_not_take_is_named(
    client: Client, codec: Codec, health: Health, version: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"svc {version}"):
        ServiceEndpoints(client, codec, health, ServiceIdentity(name="svc", version=version))


async def test_services_are_found_by_request_and_by_announcement(
    plain: PlainClient,
    client: Client,
    codec: Codec,
    service_endpoints: ServiceEndpoints,
    named: ServiceIdentity,
) -> None:
    async def stranger(message: Msg) -> None:
        await message.respond(b'{"name": "stranger", "id": "1", "version": "0.1.0"}')

    own = service_endpoints.announcement()
    other = msgspec.structs.replace(own, service="z-other", instance_id="2")
    third = msgspec.structs.replace(other, instance_id="3")
    last = msgspec.structs.replace(other, instance_id="4")

    async def chatter(message: Msg) -> None:
        await message.respond(b"nonsense")
        await plain.publish(ANNOUNCEMENTS, b"nonsense")
        gone = msgspec.structs.replace(third, status="offline")
        for announced in (own, third, gone, other, last):
            await plain.publish(ANNOUNCEMENTS, msgspec.json.encode(announced))

    await plain.subscribe("$SRV.INFO", cb=stranger)
    await plain.subscribe("$SRV.INFO", cb=chatter)
    await plain.flush()

    every = await discover(client, BOUND, count=4)

    assert [(each.service, each.instance_id) for each in every] == [
        ("stranger", "1"),
        (named.name, service_endpoints.instance_id),
        ("z-other", "2"),
        ("z-other", "4"),
    ]
    assert every[0].endpoints == ()
    assert every[1].endpoints == own.endpoints


async def test_the_subjects_of_commands_and_queries_are_in_the_info(
    client: Client, service_endpoints: ServiceEndpoints, named: ServiceIdentity, codec: Codec
) -> None:
    found = await discover(client, BOUND, count=1)

    kinds = {each.subject: each.kind for each in found[0].endpoints}
    assert kinds[f"{codec.domain}.cmd.flake.create"] == "command"
    assert kinds[f"{codec.domain}.query.flake.get"] == "query"
    assert kinds[f"health.{named.name}"] == "service"


async def test_without_services_none_is_found(server: EmbeddedServer) -> None:
    async with connect(settings_for(server.url)) as client:
        assert await discover(client, 0.05) == []
