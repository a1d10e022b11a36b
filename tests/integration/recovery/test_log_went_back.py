"""A log that went back: nothing is decided and nothing is published on it, however often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.client.client import connect
from eventstore.errors import LogDiverged
from eventstore.store.store import EventStore
from examples import bank
from tests.integration.recovery.went_back import Depot


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[Depot]:
    depot = Depot(tmp_path)
    async with depot.server:
        yield depot


async def append(depot: Depot, account: str, count: int) -> None:
    """Append to the log by itself, as the service of another release might."""
    async with (
        connect(depot.settings) as client,
        EventStore(client, bank.app.domain.codec) as store,
    ):
        for _ in range(count):
            await store.append("account", account, bank.Deposited(amount=1))


async def state(depot: Depot) -> dict[str, int]:
    """The last sequence of each stream."""
    async with connect(depot.settings) as client:
        names = (await client.api("STREAM.NAMES"))["streams"]
        infos = {name: await client.api(f"STREAM.INFO.{name}") for name in names}
    return {name: info["state"]["last_seq"] for name, info in infos.items()}


async def refused(depot: Depot, match: str) -> None:
    """The service refuses to start, and has changed nothing but its notes."""
    before = await state(depot)
    with pytest.raises(LogDiverged, match=match):
        async with depot.service():
            raise AssertionError("it has started")
    after = await state(depot)
    assert {**after, "KV_BANK_CONFIG": 0} == {**before, "KV_BANK_CONFIG": 0}


async def test_a_server_that_was_put_back_is_noticed_by_the_read_models(depot: Depot) -> None:
    await depot.deposits(3)
    await depot.keep()
    await depot.deposits(3)
    await depot.put_back()

    await refused(
        depot, "at position 6 was event .*the read model of projection .*ends at position 3"
    )
    for _ in range(3):  # whatever is appended meanwhile, up to there and beyond
        await append(depot, "b", 2)
        await refused(depot, "at position 6 was event .*the read model of projection")


async def test_a_log_that_has_lost_its_end_is_noticed_without_a_read_model(depot: Depot) -> None:
    await depot.deposits(3)
    await depot.keep()
    await depot.deposits(2)
    await depot.put_back("BANK_LOG")

    match = "at position 5 was event .*configuration bucket has seen, and now the log ends at"
    with pytest.raises(LogDiverged, match=match):
        async with depot.service(projections=False, queries=False):
            pass
