"""`eventstore health` and `eventstore discover`."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.aio.msg import Msg

from eventstore import nix
from eventstore.application import WriteSide, running
from eventstore.application.observability import make_telemetry, service_endpoints, service_health
from eventstore.application.service import RunningApplication
from eventstore.cli.commands.discover import print_services
from eventstore.cli.commands.health import EXIT_STATUS, print_health, request_health
from eventstore.cli.output.terminal import Terminal
from eventstore.cli.session import Session
from eventstore.client.client import Client
from eventstore.config import ServiceSettings, Settings
from eventstore.errors import ClientError, ConfigurationError, ConnectFailed, NoResponders
from eventstore.projections.database.database import Database
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.discovery import DiscoveredService, discover
from eventstore.service.health import HealthReport
from eventstore.service.metrics import Metrics
from eventstore.service.tracing import Tracing
from eventstore.telemetry import NO_TELEMETRY
from projections import app as shipped
from projections import nix_migrations, nix_projections
from tests.conftest import settings_for

BOUND = 45.0

NATS_CHECKS = ("connection", "storage", "streams", "commands", "timers")


@pytest.fixture
def settings(settings: Settings, domain_name: str) -> Settings:
    service = ServiceSettings(name=f"svc-{domain_name}", version="1.2.3", description="mine")
    nats = msgspec.structs.replace(settings.nats, service=service)
    return msgspec.structs.replace(settings, nats=nats)


@asynccontextmanager
async def serving(settings: Settings, directory: Path) -> AsyncIterator[Metrics]:
    metrics = Metrics()
    async with (
        Database(directory / "read_model.sqlite", migrations=nix_migrations()) as database,
        WriteSide(nix.domain(), settings) as app,
    ):
        await database.migrate()
        worker = ProjectionWorker(app.store, database, nix_projections())
        identity = shipped.identity(settings)
        service = RunningApplication(
            shipped, settings, identity, app, database, projections=worker, telemetry=metrics
        )
        health = service_health(service, cache_ttl=0.0)
        endpoints = service_endpoints(service, health, metrics=metrics)
        async with running(worker, endpoints), asyncio.timeout(BOUND):
            await app.worker.ready.wait()
            await worker.ready.wait()
            await endpoints.ready.wait()
            yield metrics


def shown(console_width: int = 200) -> tuple[Terminal, io.StringIO]:
    text = io.StringIO()
    return Terminal(file=text, width=console_width), text


async def test_health_is_requested_by_service_or_domain(
    settings: Settings, tmp_path: Path, domain_name: str
) -> None:
    async with serving(settings, tmp_path) as metrics:
        report = await request_health(Session(lambda: settings), None, BOUND)
        same = await request_health(Session(lambda: settings), domain_name, BOUND)

    assert report.status == same.status == "healthy"
    assert EXIT_STATUS[report.status] == 0
    assert report.service == same.service == f"svc-{domain_name}"
    assert b'eventstore_health{check="database"} 0.0' in metrics.render()
    console, text = shown()
    print_health(console, report)
    lines = text.getvalue().splitlines()
    assert lines[0].startswith(f"healthy svc-{domain_name} 1.2.3, up ")
    assert lines[0].endswith(" MB")
    assert lines[1].split() == ["check", "status", "about"]
    checks = [line for line in lines[2:] if not line.startswith(" ")]
    assert [line.split()[:2] for line in checks] == [
        [name, "healthy"] for name in (*NATS_CHECKS, "database", "projections")
    ]
    assert "projections 6 (flakes, " in checks[6]


async def test_an_unhealthy_report_shows_its_problems(settings: Settings, tmp_path: Path) -> None:
    async with serving(settings, tmp_path):
        moved(tmp_path / "read_model.sqlite", tmp_path / "away")
        report = await request_health(Session(lambda: settings), None, BOUND)
        moved(tmp_path / "away", tmp_path / "read_model.sqlite")

    assert EXIT_STATUS[report.status] == 2
    console, text = shown()
    print_health(console, report)
    assert text.getvalue().startswith("unhealthy ")
    (line,) = [each for each in text.getvalue().splitlines() if each.startswith("database")]
    assert "unhealthy" in line
    assert "is gone: No such file" in line


def moved(file: Path, target: Path) -> None:
    file.rename(target)


async def test_a_missing_service_is_named_in_the_error(settings: Settings) -> None:
    with pytest.raises(NoResponders, match=r"health\.nobody"):
        await request_health(Session(lambda: settings), "nobody", BOUND)


async def test_a_missing_server_is_named_in_the_error() -> None:
    with pytest.raises(ConnectFailed, match="127"):
        await request_health(Session(lambda: settings_for("nats://127.0.0.1:1")), None, BOUND)


@pytest.mark.parametrize("payload", [b"nonsense", b"{}", b'{"status": "dead"}'])
async def test_an_answer_that_is_no_report_is_an_error(
    settings: Settings, client: Client, payload: bytes
) -> None:
    async def answer(message: Msg) -> None:
        await client.publish(message.reply, payload)

    await client.subscribe("health.odd", answer)
    await client.flush()

    with pytest.raises(ClientError, match="not a health report"):
        await request_health(Session(lambda: settings), "odd", BOUND)


async def test_a_refusal_of_the_service_is_an_error(settings: Settings, client: Client) -> None:
    async def refuse(message: Msg) -> None:
        await client.publish(message.reply, headers={"Nats-Service-Error": "not today"})

    await client.subscribe("health.shy", refuse)
    await client.flush()

    with pytest.raises(ClientError, match=r"health\.shy: not today"):
        await request_health(Session(lambda: settings), "shy", BOUND)


def test_a_partial_report_of_another_implementation_is_shown() -> None:
    report = HealthReport(
        status="degraded",
        service="other",
        version="0",
        timestamp="",
        details={"uptime_seconds": "long", "a": {"status": "odd\x1b[1m", "lag": 3}, "b": {}},
    )
    console, text = shown()

    print_health(console, report)

    assert text.getvalue().splitlines()[0] == "degraded other 0"
    assert "\x1b" not in text.getvalue()
    assert "lag 3" in text.getvalue()
    assert EXIT_STATUS["degraded"] == 1


async def test_running_services_are_discovered_and_shown(
    settings: Settings, tmp_path: Path, domain_name: str
) -> None:
    async with serving(settings, tmp_path), Session(lambda: settings).connect() as client:
        (found,) = await discover(client, BOUND, count=1)

    assert (found.service, found.version) == (f"svc-{domain_name}", "1.2.3")
    console, text = shown()
    print_services(console, [found])
    header, line = text.getvalue().splitlines()
    assert header.split() == ["service", "version", "instance", "endpoints", "description"]
    assert line.split()[:3] == [f"svc-{domain_name}", "1.2.3", found.instance_id]
    assert "17 command, 5 service" in line
    assert line.rstrip().endswith("mine")
    assert (
        msgspec.json.decode(json.dumps(msgspec.to_builtins(found)), type=DiscoveredService) == found
    )


def test_telemetry_combines_metrics_and_tracing() -> None:
    metrics = Metrics()

    assert make_telemetry(None, tracing=False) is NO_TELEMETRY
    assert make_telemetry(metrics, tracing=False) is metrics
    assert isinstance(make_telemetry(None, tracing=True), Tracing)
    both = make_telemetry(metrics, tracing=True)
    with both.span("append", aggregate="flake"):
        pass
    assert b'eventstore_append_seconds_count{aggregate="flake"} 1.0' in metrics.render()


def test_tracing_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "eventstore.service.tracing", None)

    with pytest.raises(ConfigurationError, match=r"jetstream-eventstore\[otel\]"):
        make_telemetry(None, tracing=True)
