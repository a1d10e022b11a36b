"""Releases side by side: a command is left to those that know its aggregate, and never parked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore.application import WriteSide
from eventstore.client.client import Client
from eventstore.commands import worker as commands_worker
from eventstore.commands.consumer import worker_consumer
from eventstore.commands.handler import CommandHandler
from eventstore.concurrency.backoff import Backoff
from eventstore.config import Settings
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import ConnectionLost, ForeignStream
from eventstore.messages.types import Command, Event
from eventstore.service.checks import CommandsCheck
from tests.integration.commanding import Add, Counter, Line, counter, opened, until

BOUND = 45.0


class Ship(Command, subject="parcel.ship", creates=True):
    pass


class Shipped(Event, subject="parcel.shipped"):
    pass


parcel = Decider("parcel", initial=Counter)


@parcel.decides
def ship(state: Counter, command: Ship) -> Shipped:
    return Shipped()


@parcel.evolves
def shipped(state: Counter, event: Shipped) -> Counter:
    return state


OLDER = Domain("shop", [counter])
NEWER = Domain("shop", [counter, parcel])


@pytest.fixture
async def older(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, OLDER.renamed(domain_name)) as line:
        yield line


@pytest.fixture
async def newer(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, NEWER.renamed(domain_name)) as line:
        yield line


async def test_a_command_waits_for_the_release_that_knows_its_aggregate(
    older: Line, newer: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async with newer.working():
        pass  # it has noted its aggregates
    async with older.working(max_deliveries=1, max_failures=1) as worker:
        for number in range(3):
            await newer.commands.send(Ship(), f"p-{number}")

        async def is_redelivered() -> bool:
            return worker.left.get("parcel", 0) >= 6

        await until(is_redelivered)
        outcome = await older.commands.execute(Add(amount=2), "c-1", timeout=BOUND)
        assert outcome.status == "success"  # others do not wait
        found = await CommandsCheck(
            older.client, worker_consumer(older.domain.codec), max_age=0.0, left=worker.left
        )()
        assert found.facts["left_to_other_releases"]["parcel"] >= 6
        assert "those of parcel are left to other releases" in (found.problem or "")
        assert (await older.queued(), await older.parked()) == (3, [])
    logged = [each for each in caplog.records if "stay in the queue" in each.message]
    assert [each.levelno for each in logged] == [logging.WARNING]  # once
    assert "commands of parcel stay in the queue for another release of shop" in logged[0].message

    async with newer.working():
        await newer.until_done()
    for number in range(3):
        assert len(await newer.read(f"p-{number}", "parcel")) == 1
    assert await newer.parked() == []


async def test_what_an_older_release_has_left_is_not_parked_for_that(
    older: Line, newer: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that passes is tried again, however often the command was left before."""
    async with newer.working():
        pass
    async with older.working() as worker:
        await newer.commands.send(Ship(), "p-1")

        async def is_left() -> bool:
            return worker.left.get("parcel", 0) >= 3

        await until(is_left)

    fails = [True, False]
    load = CommandHandler.handle

    async def failing_once(self: CommandHandler, command: Any, **options: Any) -> Any:
        if fails.pop(0):
            raise ConnectionLost("for a moment")
        return await load(self, command, **options)

    monkeypatch.setattr(CommandHandler, "handle", failing_once)
    async with newer.working(max_deliveries=2, max_failures=2):
        await newer.until_done()

    assert len(await newer.read("p-1", "parcel")) == 1
    assert await newer.parked() == []


async def test_a_command_that_was_left_and_fails_is_parked(
    older: Line, newer: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with newer.working():
        pass
    async with older.working() as worker:
        await newer.commands.send(Ship(), "p-1")

        async def is_left() -> bool:
            return worker.left.get("parcel", 0) >= 1

        await until(is_left)

    async def failing(_self: CommandHandler, _command: Any, **_options: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(CommandHandler, "handle", failing)
    async with newer.working(max_failures=2):
        await newer.until_done()

    [record] = await newer.parked()
    assert record["delivered"] > 2


async def test_so_many_left_that_no_others_are_delivered(
    older: Line, newer: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eventstore.commands.consumer._MAX_ACK_PENDING", 2)
    monkeypatch.setattr("eventstore.commands.releases._CHECK_SECONDS", 0.0)
    consumer = worker_consumer(older.domain.codec)
    async with newer.working():
        pass
    async with older.working() as worker:
        for number in range(3):
            await newer.commands.send(Ship(), f"p-{number}")

        async def is_logged() -> bool:
            return "the server delivers no more commands, as 2 are not done" in caplog.text

        await until(is_logged)
        found = await CommandsCheck(older.client, consumer, left=worker.left)()
    assert found.status == "degraded"
    assert "those of parcel among them are left to another release" in (found.problem or "")
    async with newer.working():
        await newer.until_done()


async def test_redeliveries_slow_down(older: Line, newer: Line) -> None:
    async with newer.working():
        pass
    async with older.working() as worker:
        await newer.commands.send(Ship(), "p-1")

        async def is_left() -> bool:
            return worker.left.get("parcel", 0) >= 3

        began = asyncio.get_running_loop().time()
        await until(is_left)
        assert asyncio.get_running_loop().time() - began >= 0.7  # 0.25 + 0.5 s


async def test_a_release_that_comes_later_is_noticed(older: Line, newer: Line) -> None:
    async with older.working() as worker:
        await older.commands.execute(Add(amount=1), "c-1", timeout=BOUND)
        async with newer.working():
            outcome = await newer.commands.execute(Ship(), "p-1", timeout=BOUND)
            assert outcome.status == "success"
        await newer.commands.send(Ship(), "p-2")

        async def is_left() -> bool:
            return worker.left.get("parcel", 0) >= 1

        await until(is_left)
    assert await older.parked() == []


async def test_a_command_of_an_aggregate_that_nobody_knows_is_parked(older: Line) -> None:
    subject = older.subjects.command("unheard", "of")
    async with older.working() as worker:
        await older.jetstream.publish(subject, b"{}")
        await older.until_done()
        assert worker.left == {}
    [record] = await older.parked()
    assert record["code"] == "unknown_type"


async def test_an_unknown_command_of_a_known_aggregate_is_parked(older: Line) -> None:
    async with older.working():
        await older.jetstream.publish(older.subjects.command("counter", "unheard"), b"{}")
        await older.until_done()
    assert [record["code"] for record in await older.parked()] == ["unknown_type"]


async def test_a_worker_refuses_the_queue_of_another_application(
    older: Line, client: Client, domain_name: str
) -> None:
    async with older.working():
        pass
    bank = Domain("bank", [parcel]).renamed(domain_name)
    line = Line(client, bank, older.store, older.commands, older.snapshots)
    with pytest.raises(ForeignStream, match="_CMD belongs to the application shop, not to bank"):
        await asyncio.wait_for(line.worker().run(), BOUND)


async def test_a_service_runs_beside_a_newer_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands_worker, "_REDELIVERY", Backoff(0.01, 1.0, jitter=0))
    async with (
        asyncio.timeout(BOUND),
        WriteSide(OLDER, settings) as old,
        WriteSide(NEWER, settings) as new,
    ):
        sent = [new.commands.execute(Ship(), f"p-{n}", timeout=BOUND) for n in range(10)]
        assert {each.status for each in await asyncio.gather(*sent)} == {"success"}
        outcome = await old.commands.execute(Add(amount=1), "c-1", timeout=BOUND)
        assert outcome.status == "success"
