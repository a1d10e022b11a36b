"""Health, from real checks: each fails when what it checks is taken away, and recovers."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore import nix
from eventstore.application import WriteSide
from eventstore.application.observability import service_health
from eventstore.application.service import RunningApplication
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient
from eventstore.commands.worker import worker_consumer
from eventstore.config import Settings, StreamSettings
from eventstore.errors import (
    ConnectionLost,
    DatabaseUnavailable,
    MigrationError,
    ProjectionError,
    StreamMissing,
)
from eventstore.jetstream.topology import declare, declare_consumer, topology
from eventstore.messages.codec import Codec
from eventstore.projections.database.database import Database
from eventstore.projections.health import DatabaseCheck, ProjectionsCheck
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.server.embedded import EmbeddedServer
from eventstore.service.checks import CommandsCheck, ConnectionCheck, StreamsCheck
from eventstore.service.health import Health, HealthReport
from eventstore.service.metrics import Metrics
from eventstore.store.store import EventStore
from projections import app as shipped
from projections import nix_migrations, nix_projections
from tests.conftest import settings_for
from tests.integration.ledger import declare_log
from tests.unit.projections.counters import Counted, counting, make_tables

BOUND = 45.0
CREATE = nix.CreateModule(name="m", content="0")


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[WriteSide]:
    async with WriteSide(nix.domain(), settings) as app:
        await asyncio.wait_for(app.worker.ready.wait(), BOUND)
        yield app


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "read_model.sqlite", migrations=nix_migrations()) as database:
        await database.migrate()
        yield database


@pytest.fixture
async def health(app: WriteSide, settings: Settings, database: Database) -> AsyncIterator[Health]:
    """The health of a service at work, checked again at each request."""
    worker = ProjectionWorker(app.store, database, nix_projections())
    identity = shipped.identity(settings)
    service = RunningApplication(shipped, settings, identity, app, database, projections=worker)
    health = service_health(service, cache_ttl=0.0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        await asyncio.wait_for(worker.ready.wait(), BOUND)
        yield health
        worker.stop()


@pytest.fixture
def file(database: Database) -> Path:
    return Path(str(database.url.database))


async def report_with(health: Health, *checks: str) -> HealthReport:
    """The first report in which exactly these checks have a problem.

    On a busy machine any check may take longer than it may, which is a problem as well.
    """
    async with asyncio.timeout(BOUND):
        while (report := await health.report()).problems.keys() != set(checks):
            pass
    return report


def moved(file: Path, target: Path) -> Path:
    return file.replace(target)


def copied(file: Path) -> Path:
    return Path(shutil.copy(file, file.with_suffix(".copy")))


async def test_a_service_at_work_is_healthy(health: Health, app: WriteSide) -> None:
    await app.commands.execute(CREATE, "m", timeout=BOUND)

    report = await health.report()

    assert (report.status, report.problems) == ("healthy", {})
    checks = {"connection", "streams", "commands", "timers", "database", "projections"}
    assert set(report.checks) == checks
    log = app.domain.codec.subjects.log_stream
    assert report.details["connection"]["rtt_ms"] > 0
    assert report.details["connection"]["server_version"] == app.client.server_version
    assert report.details["streams"]["streams"][log]["messages"] == 1
    assert report.details["commands"]["redelivered"] == 0
    assert report.details["database"]["bytes"] > 0
    assert report.details["projections"]["log_end"] == 1
    assert set(report.details["projections"]["projections"]["modules"]) == {
        "status",
        "state",
        "position",
        "lag",
        "rate",
        "parked",
    }


async def test_without_its_database_it_is_unhealthy_until_it_is_back(
    health: Health, file: Path
) -> None:
    assert (await health.report()).status == "healthy"

    away = moved(file, file.with_suffix(".away"))
    report = await health.report()
    assert report.status == "unhealthy"
    assert set(report.problems) == {"database"}
    assert str(file) in report.problems["database"]
    assert "No such file" in report.problems["database"]

    moved(away, file)
    assert (await health.report()).status == "healthy"


@pytest.mark.parametrize("kind", ["event_stream", "parked_stream"])
async def test_without_a_stream_it_is_unhealthy_until_it_is_back(
    health: Health, app: WriteSide, settings: Settings, kind: str
) -> None:
    subjects = app.domain.codec.subjects
    stream = getattr(subjects, kind)

    await app.client.api(f"STREAM.DELETE.{stream}")
    report = await report_with(health, "streams")
    assert report.status == "unhealthy"
    assert f"stream {stream} does not exist" in report.problems["streams"]
    assert report.details["streams"]["streams"][stream]["status"] == "unhealthy"

    assert await declare(app.client, topology(subjects, settings.streams)) == [stream]
    assert (await report_with(health)).status == "healthy"


async def test_a_stream_that_was_changed_is_unhealthy_until_it_is_as_declared(
    health: Health, app: WriteSide
) -> None:
    stream = app.domain.codec.subjects.event_stream
    answer = await app.client.api(f"STREAM.INFO.{stream}")
    declared = answer["config"]

    await app.client.api(f"STREAM.UPDATE.{stream}", {**declared, "max_age": 86_400_000_000_000})
    report = await health.report()
    assert report.status == "unhealthy"
    assert "max_age" in report.problems["streams"]

    await app.client.api(f"STREAM.UPDATE.{stream}", declared)
    assert (await health.report()).status == "healthy"


async def test_without_a_connection_it_is_unhealthy_and_degraded_when_it_has_come_back(
    server: EmbeddedServer,
) -> None:
    async with connect(settings_for(server.url)) as client:
        check = ConnectionCheck(client)
        settled = ConnectionCheck(client, unsettled=0.0)
        assert (await check()).status == "healthy"

        await server.stop()
        with pytest.raises(ConnectionLost):
            await check()

        await server.start()
        await client.wait_connected(BOUND)
        finding = await check()
        assert finding.status == "degraded"
        assert finding.facts["reconnects"] == 1
        assert "lost within the last 30 s" in str(finding.problem)
        assert (await settled()).status == "healthy"


async def test_an_unprocessed_backlog_degrades_it(client: Client, settings: Settings) -> None:
    codec = nix.domain(settings.nats.subject_prefix or "").codec
    consumer = worker_consumer(codec)
    metrics = Metrics()
    with pytest.raises(StreamMissing, match="declare the topology first"):
        await CommandsCheck(client, consumer)()
    await declare(client, topology(codec.subjects, StreamSettings()))
    with pytest.raises(StreamMissing, match="no command worker has run"):
        await CommandsCheck(client, consumer)()

    await declare_consumer(client, consumer)
    many = CommandsCheck(client, consumer, max_pending=2, telemetry=metrics)
    old = CommandsCheck(client, consumer, max_age=0.0)
    assert (await many()).status == (await old()).status == "healthy"
    async with CommandClient(client, codec) as commands:
        for _ in range(3):
            await commands.send(CREATE)

    finding = await many()
    assert (finding.status, finding.problem) == ("degraded", "3 commands waiting")
    assert finding.facts["pending"] == 3
    assert b'eventstore_command_backlog{state="pending"} 3.0' in metrics.render()
    finding = await old()
    assert finding.status == "degraded"
    assert "a command has waited for" in str(finding.problem)
    assert (await CommandsCheck(client, consumer)()).status == "healthy"

    await client.api(f"STREAM.PURGE.{consumer.stream}")
    assert (await many()).status == (await old()).status == "healthy"
    assert (await old()).facts["oldest_seconds"] == 0.0


async def test_how_many_messages_are_in_each_stream_becomes_a_gauge(
    client: Client, settings: Settings
) -> None:
    subjects = nix.domain(settings.nats.subject_prefix or "").codec.subjects
    specs = topology(subjects, StreamSettings())
    metrics = Metrics()
    await declare(client, specs)

    await client.request(f"{subjects.domain}.parked.cmd.flake.create", b"{}")
    await StreamsCheck(client, specs, telemetry=metrics)()

    gauge = f'eventstore_stream_messages{{stream="{subjects.parked_stream}"}} 1.0'
    assert gauge.encode() in metrics.render()


async def test_a_database_that_was_replaced_is_not_the_one_that_is_written_to(
    database: Database, file: Path
) -> None:
    check = DatabaseCheck(database)
    await check()

    moved(copied(file), file)

    with pytest.raises(DatabaseUnavailable, match="replaced by another file"):
        await check()


async def test_a_database_without_the_schema_is_reported(new_read_model: str) -> None:
    async with Database(new_read_model, migrations=nix_migrations()) as database:
        check = DatabaseCheck(database)
        with pytest.raises(MigrationError):
            await check()
        await database.migrate()
        finding = await check()
        assert finding.status == "healthy"
        assert finding.facts["name"] == database.name
        assert finding.facts["bytes"] >= 4096


async def test_a_file_that_is_not_a_database_is_reported(tmp_path: Path) -> None:
    async with Database(tmp_path / "read_model.sqlite", migrations=nix_migrations()) as database:
        (tmp_path / "read_model.sqlite").write_bytes(b"no database " * 1_000)
        finding = await DatabaseCheck(database)()
    assert finding.status == "unhealthy"
    assert "file is not a database" in str(finding.problem)


async def test_projections_that_lag_or_stall_degrade_it(app: WriteSide, database: Database) -> None:
    worker = ProjectionWorker(app.store, database, nix_projections())
    end = 5
    metrics = Metrics()

    async def log_end() -> int:
        return end

    async def waiting_seconds(after: int) -> float:
        return 90.0 + after

    behind = ProjectionsCheck(
        worker, log_end, waiting_seconds=waiting_seconds, max_lag=4, telemetry=metrics
    )
    stalled = ProjectionsCheck(worker, log_end, max_stall=0.0)
    lenient = ProjectionsCheck(worker, log_end)

    finding = await behind()
    assert finding.status == "degraded"
    assert "modules: 5 events behind" in str(finding.problem)
    assert b'eventstore_projection_lag_events{projection="modules"} 5.0' in metrics.render()
    assert b'eventstore_projection_lag_seconds{projection="modules"} 90.0' in metrics.render()
    assert (await stalled()).status == "healthy"  # seen for the first time
    finding = await stalled()
    assert finding.status == "degraded"
    assert "has not moved for" in str(finding.problem)
    assert (await lenient()).status == "healthy"

    end = 0
    assert (await behind()).status == (await stalled()).status == "healthy"
    end = 1
    await stalled()
    worker.progress["modules"].position = 1
    finding = await stalled()
    assert finding.facts["projections"]["modules"]["status"] == "healthy"
    assert finding.facts["projections"]["flakes"]["status"] == "degraded"


async def test_a_projection_that_has_failed_is_unhealthy(
    client: Client, domain_name: str, database: Database
) -> None:
    def fails(_: Counted) -> None:
        raise KeyError("no such counter")

    codec = Codec(domain_name, (), (Counted,))
    await declare_log(client, codec)
    await make_tables(database)
    async with EventStore(client, codec) as store:
        appended = await store.append("counter", "c", Counted(by=1))
        worker = ProjectionWorker(store, database, [counting("failing", fails=fails)])
        with pytest.raises(ProjectionError, match="no such counter"):
            await asyncio.wait_for(worker.run(), BOUND)

    async def log_end() -> int:
        return appended.position

    finding = await ProjectionsCheck(worker, log_end)()
    assert finding.status == "unhealthy"
    assert "no such counter" in str(finding.problem)
    assert finding.facts["projections"]["failing"]["state"] == "failed"
