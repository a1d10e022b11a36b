"""The parts of a service fail alone: commands go on, and health says which part has failed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from eventstore import Application, RecordedEvent, Subscriber
from eventstore.application.service import RunningApplication
from eventstore.application.supervision import SupervisedPart
from eventstore.concurrency.backoff import Backoff
from eventstore.config import Settings
from eventstore.errors import QueryRefused
from eventstore.jetstream.api import create_consumer, delete_consumer, find_consumer
from eventstore.projections.database.tables import checkpoints
from eventstore.service.health import HealthReport
from examples import bank
from tests.connection import settings_for
from tests.integration.commanding import until

BOUND = 45.0


@pytest.fixture
def own(settings: Settings, tmp_path: Path) -> Settings:
    """Settings of the shared server, under a prefix and with a read model of the test's own."""
    made = settings_for(settings.nats.url[0], settings.nats.subject_prefix or "")
    return made.in_directory(tmp_path)


async def health_of(service: RunningApplication) -> HealthReport:
    answer = await service.client.request(f"health.{service.identity.name}", timeout=BOUND)
    return HealthReport.from_json(answer.data)


async def until_problem(service: RunningApplication, text: str) -> None:
    """Return when a check of the service reports a problem with this text."""

    async def is_reported() -> bool:
        return any(text in each for each in (await health_of(service)).problems.values())

    await until(is_reported)


async def until_no_problem(service: RunningApplication, check: str) -> None:
    async def is_gone() -> bool:
        return check not in (await health_of(service)).problems

    await until(is_gone)


async def until_true(condition: Callable[[], bool]) -> None:
    async def is_true() -> bool:
        return condition()

    await until(is_true)


async def deposit(service: RunningApplication, account: str) -> int:
    outcome = await service.execute(bank.Deposit(amount=1), account)
    assert outcome.status == "success", outcome
    return outcome.position


async def test_a_service_starts_beside_a_locked_read_model(own: Settings) -> None:
    async with asyncio.timeout(BOUND), bank.app.running(own) as service:
        await service.ask(bank.GetAccount(id="a"), wait_for=await deposit(service, "a"))
    path = own.read_model.database
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        async with asyncio.timeout(BOUND), bank.app.running(own) as service:
            await until_problem(service, "database is locked")
            position = await deposit(service, "a")
            assert (await service.ask(bank.GetAccount(id="a"))).balance == 1
            writer.execute("ROLLBACK")
            assert (await service.ask(bank.GetAccount(id="a"), wait_for=position)).balance == 2


async def test_a_deleted_consumer_stops_its_subscriber_alone_until_there_is_one(
    own: Settings,
) -> None:
    mailer, counter = Subscriber("mailer"), Subscriber("counter")
    received: dict[str, list[str]] = {"mailer": [], "counter": []}

    @mailer.handles
    async def mailed(_event: bank.Deposited, recorded: RecordedEvent) -> None:
        received["mailer"].append(recorded.aggregate_id)

    @counter.handles
    async def counted(_event: bank.Deposited, recorded: RecordedEvent) -> None:
        received["counter"].append(recorded.aggregate_id)

    app = Application("bank", deciders=[bank.account], subscribers=[mailer, counter])
    running = app.running(own, projections=False, queries=False)
    async with asyncio.timeout(BOUND), running as service:
        await deposit(service, "a")
        await until_true(lambda: received == {"mailer": ["a"], "counter": ["a"]})
        stream = service.domain.codec.subjects.event_stream
        info = await find_consumer(service.client, stream, "mailer")
        assert info is not None
        await delete_consumer(service.client, stream, "mailer")
        await until_problem(service, "consumer mailer of stream")
        await deposit(service, "b")
        await until_true(lambda: received["counter"] == ["a", "b"])
        config = {**info.config, "deliver_policy": "by_start_sequence", "opt_start_seq": 2}
        await create_consumer(service.client, stream, "mailer", config)
        await until_true(lambda: received["mailer"] == ["a", "b"])
        await until_no_problem(service, "subscribers")


async def test_rows_of_another_log_are_refused_and_nothing_else_is(own: Settings) -> None:
    async with asyncio.timeout(BOUND), bank.app.running(own) as owner:
        position = await deposit(owner, "a")
        await owner.ask(bank.GetAccount(id="a"), wait_for=position)
        async with bank.app.running(own) as standby:
            assert owner.database is not None
            moved = update(checkpoints).where(checkpoints.c.name == "accounts")
            log = await owner.store.identity()
            await owner.database.transact(lambda c: c.execute(moved.values(log="another log")))
            await until_problem(standby, "built from another log")
            with pytest.raises(QueryRefused, match="built from another log"):
                await standby.ask(bank.GetAccount(id="a"))
            await deposit(standby, "a")
            await owner.database.transact(lambda c: c.execute(moved.values(log=log)))
            await until_no_problem(standby, "projections")
            assert (await standby.ask(bank.GetAccount(id="a"))).balance


async def test_a_service_is_stopped_in_order_while_rows_are_those_of_another_log(
    own: Settings,
) -> None:
    async with asyncio.timeout(BOUND), bank.app.running(own) as owner:
        position = await deposit(owner, "a")
        await owner.ask(bank.GetAccount(id="a"), wait_for=position)
        assert owner.database is not None
        moved = update(checkpoints).where(checkpoints.c.name == "accounts")
        log = await owner.store.identity()
        async with bank.app.running(own) as standby:
            await owner.database.transact(lambda c: c.execute(moved.values(log="another log")))
            await until_problem(standby, "built from another log")
        await owner.database.transact(lambda c: c.execute(moved.values(log=log)))


async def test_an_embedded_server_that_dies_is_started_again(tmp_path: Path) -> None:
    running = bank.app.running(directory=tmp_path, projections=False, queries=False)
    async with asyncio.timeout(BOUND), running as service:
        await deposit(service, "a")
        (ports,) = (tmp_path / "nats").glob("*.ports")
        lost = asyncio.Event()
        service.client.on_disconnect(lost.set)
        os.kill(int(ports.stem.rpartition("_")[2]), signal.SIGKILL)
        await lost.wait()
        await service.client.wait_connected(BOUND)
        await deposit(service, "b")


class Part:
    """A part that fails when it is told to; it can be run again."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.runs = 0
        self._failure: asyncio.Future[None]

    async def run(self) -> None:
        self.runs += 1
        self._failure = asyncio.get_running_loop().create_future()
        self.ready.set()
        await self._failure

    def fail(self, error: Exception) -> None:
        self._failure.set_exception(error)

    def stop(self) -> None:
        self._failure.set_result(None)


async def test_a_part_that_fails_is_run_again(own: Settings) -> None:
    part = Part()
    async with asyncio.timeout(BOUND), bank.app.client(own) as shop:
        supervised = SupervisedPart("part", part, shop.client, backoff=Backoff(0.01, 0.01))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(supervised.run())
            await until_true(lambda: part.runs == 1)
            part.fail(LookupError("lost"))
            await until_true(lambda: part.runs == 2)
            assert isinstance(supervised.error, LookupError)
            supervised.stop()
