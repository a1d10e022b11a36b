"""A log that went back: nothing is decided and nothing is published on it, however often."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from eventstore.application.service import RunningApplication
from eventstore.client.client import Client, connect
from eventstore.commands import CommandClient
from eventstore.errors import LogDiverged, LogMissing, QueryRefused, RecoveryRefused
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.headers import position_of
from eventstore.projections.audit import audit
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.pytest_plugin import eventually
from eventstore.recovery import RecoveryPlan, plan_recovery, recover
from eventstore.recovery.evidence import read_checkpoints
from eventstore.store.store import EventStore
from eventstore.transfer import export_log, import_log
from examples import bank
from tests.integration.commanding import until
from tests.integration.recovery.went_back import BOUND, Depot

CODEC = bank.app.domain.codec
PROJECTIONS = (*bank.app.projections, audit)


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[Depot]:
    depot = Depot(tmp_path)
    async with depot.server:
        yield depot


async def append(depot: Depot, account: str, count: int) -> None:
    """Append to the log by itself, as the service of another release might."""
    async with connect(depot.settings) as client, EventStore(client, CODEC) as store:
        for _ in range(count):
            await store.append("account", account, bank.Deposited(amount=1))


async def state(depot: Depot) -> dict[str, int]:
    """The last sequence of each stream, but for what is noted in the configuration bucket."""
    async with connect(depot.settings) as client:
        names = (await client.api("STREAM.NAMES"))["streams"]
        infos = {name: await client.api(f"STREAM.INFO.{name}") for name in names}
    return {
        name: info["state"]["last_seq"] for name, info in infos.items() if name != "KV_BANK_CONFIG"
    }


async def refused(depot: Depot, error: type[Exception], match: str, **parts: bool) -> None:
    """The service refuses to start, and has changed nothing."""
    before = await state(depot)
    with pytest.raises(error, match=match):
        async with depot.service(**parts):
            raise AssertionError("it has started")
    assert await state(depot) == before


async def answered(service: RunningApplication, account: str, position: int) -> bank.AccountView:
    """The answer to a query, which is refused until the rows of another history are rebuilt."""
    query = bank.GetAccount(id=account)
    asking = partial(service.ask, query, wait_for=position)
    return await eventually(asking, retried=(QueryRefused,), timeout=BOUND)


async def planned(client: Client, database: Database) -> RecoveryPlan:
    known = await read_checkpoints(database, PROJECTIONS)
    return await plan_recovery(client, CODEC.subjects, known)


async def test_a_server_that_was_put_back_is_noticed_by_the_read_models(depot: Depot) -> None:
    await depot.deposits(3)
    await depot.keep()
    await depot.deposits(3)
    await depot.put_back()

    await refused(depot, LogDiverged, "at position 6 was event .*read model.*ends at position 3")
    for _ in range(2):  # whatever is appended meanwhile, up to there and beyond
        await append(depot, "b", 3)
        await refused(depot, LogDiverged, "at position 6 was event .*read model.*now there is ev")

    depot.more = {"rebuild_diverged": True}
    async with depot.service() as service:
        view = await answered(service, "b", 9)
        assert view.balance == 6
        assert (await service.ask(bank.GetAccount(id="a"))).balance == 3


async def test_a_log_without_its_end_is_refused_until_it_is_recovered(depot: Depot) -> None:
    await depot.deposits(3)
    await depot.keep()
    await depot.deposits(2)
    await depot.put_back("BANK_LOG")
    for parts in ({"projections": False, "queries": False}, {}):
        await refused(depot, LogDiverged, "at position 5 .*bucket has seen, and now the l", **parts)
    await append(depot, "b", 3)  # as a service of an earlier release does, which goes on

    async with (
        connect(depot.settings) as client,
        EventStore(client, CODEC) as store,
        Database(depot.settings.read_model.database) as database,
    ):
        await publish_on(client, store, count=6)
        plan = await planned(client, database)
        assert (plan.position, plan.end) == (3, 6)
        assert [each.position for each in plan.published] == [4, 5]
        assert [each.position for each in plan.outcomes] == [4, 5]
        assert plan.unpublished == [4, 5]  # others were published at these positions
        assert {each.name for each in plan.read_models} == {"accounts", "audit"}
        done = await recover(client, store, plan, database=database, projections=PROJECTIONS)
        assert (done.outcomes, done.published) == (2, 2)
        again = await planned(client, database)
        assert not again.is_needed, again

    lost = plan.outcomes[0]
    async with depot.service() as service:
        outcome = await service.execute(bank.Deposit(amount=7), "a", command_id=lost.command_id)
        assert (outcome.status, outcome.position) == ("success", 7)
        view = await answered(service, "a", 7)
        assert view.balance == 10
        await depot.published(service, 9)
    assert await positions(depot) == [1, 2, 3, 4, 5, 6, 4, 5, 7]


async def publish_on(client: Client, store: EventStore, count: int) -> None:
    """Publish after the saved position, until the event stream has so many messages."""
    feed = Feed(client, store)
    running = asyncio.create_task(feed.run())

    async def is_published() -> bool:
        return bool((await client.api("STREAM.INFO.BANK_EVENT"))["state"]["messages"] == count)

    await until(is_published)
    feed.stop()
    await running


async def positions(depot: Depot) -> list[int | None]:
    """Those of all published events."""
    async with connect(depot.settings) as client:
        reader = DirectReader(client, "BANK_EVENT")
        messages, _ = await reader.page("bank.event.>", 0)
    return [position_of(each.headers) for each in messages]


async def test_a_log_that_goes_back_under_a_running_service_ends_it(depot: Depot) -> None:
    await depot.deposits(1)
    await depot.keep()

    async def serve() -> None:
        async with depot.service(projections=False, queries=False, feed=False) as service:
            for _ in range(2):
                await service.execute(bank.Deposit(amount=1), "a")
            depot.server.kill()
            depot.swap("BANK_LOG")
            await depot.server.start()
            await service.client.wait_connected(BOUND)
            for _ in range(3):  # whether or not the worker takes them before it ends
                await service.commands.send(bank.Withdraw(amount=1), "b")
            await asyncio.sleep(BOUND)

    with pytest.raises(LogDiverged, match="at position 3 was event"):
        await serve()
    after = await state(depot)
    assert (after["BANK_LOG"], after["BANK_PARKED"], after["KV_BANK_OUTCOMES"]) == (1, 0, 3)
    async with connect(depot.settings) as client:
        assert (await client.api("STREAM.INFO.BANK_CMD"))["state"]["messages"] == 3


async def test_a_log_that_is_gone_is_not_made_anew(depot: Depot, tmp_path: Path) -> None:
    await depot.deposits(2)
    async with connect(depot.settings) as client:
        await export_log(client, CODEC.subjects, tmp_path / "backup")
        await client.api("STREAM.DELETE.BANK_LOG")
        async with CommandClient(client, CODEC) as commands:
            await commands.send(bank.Withdraw(amount=1), "a")
    await refused(depot, LogMissing, "is gone: the read model of projection .* to position 2")
    match = "the log BANK_LOG is gone: others of its domain were used since: BANK_CMD"
    await refused(depot, LogMissing, match, projections=False, queries=False)

    settings = depot.settings
    async with connect(settings) as client:  # the queued command was not rejected for good
        await import_log(client, CODEC.subjects, settings.streams, tmp_path / "backup")
    depot.more = {"rebuild_diverged": True}
    async with depot.service() as service:
        view = await answered(service, "a", 3)
        assert view.balance == 1


async def test_nothing_is_recovered_while_commands_are_carried_out(depot: Depot) -> None:
    async with depot.service(projections=False, queries=False) as service:
        plan = await plan_recovery(service.client, CODEC.subjects)
        assert not plan.is_needed
        with pytest.raises(RecoveryRefused, match="a service carries out commands now"):
            await recover(service.client, service.store, plan)


@pytest.mark.parametrize("decides", [False, True], ids=["idle", "busy"])
async def test_a_service_of_commands_alone_notices_that_all_was_put_back(
    depot: Depot, decides: bool
) -> None:
    """Nothing that is left in JetStream has seen more of the log: only the process has.

    It leaves behind what it has seen, so that no other begins.
    """
    await depot.deposits(1)
    await depot.keep()
    await depot.deposits(2)

    async def serve() -> None:
        async with depot.service(**parts) as service:
            if decides:
                await service.execute(bank.Deposit(amount=1), "a")
            await depot.put_back()
            await service.client.wait_connected(BOUND)
            await service.commands.send(bank.Withdraw(amount=1), "b")
            await asyncio.sleep(BOUND)

    parts = {"projections": False, "queries": False, "feed": False}
    with pytest.raises(LogDiverged, match=f"at position {3 + decides} was event"):
        await serve()
    after = await state(depot)
    assert (after["BANK_LOG"], after["KV_BANK_OUTCOMES"]) == (1, 1)
    match = f"at position {3 + decides} was event .* as the domain's configuration bucket has seen"
    await refused(depot, LogDiverged, match, **parts)
