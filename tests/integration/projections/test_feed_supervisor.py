"""A feed that fails does not end the service: it is reported, and restarted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventstore import nix
from eventstore.application import WriteSide, running
from eventstore.config import Settings
from eventstore.jetstream.topology import declare, topology
from eventstore.projections.feed.feed import Feed
from eventstore.projections.feed.supervisor import FeedSupervisor
from eventstore.service.health import HealthStatus
from tests.integration.commanding import until

PAUSE = 0.05


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[WriteSide]:
    async with WriteSide(nix.domain(), settings) as app:
        yield app


def create(number: int) -> nix.CreateFlake:
    return nix.CreateFlake(path=f"./{number}", description="")


async def is_status(feeding: FeedSupervisor, status: HealthStatus) -> bool:
    return (await feeding()).status == status


async def test_a_deleted_event_stream_makes_it_unhealthy_until_it_is_recreated(
    app: WriteSide, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    subjects = app.domain.codec.subjects
    feeding = FeedSupervisor(lambda: Feed(app.client, app.store), pause=PAUSE)
    async with running(feeding):
        await asyncio.wait_for(feeding.feed.ready.wait(), 10)
        assert await is_status(feeding, "healthy")

        await app.client.api(f"STREAM.DELETE.{subjects.event_stream}")
        assert (await app.commands.execute(create(1))).status == "success"
        await until(lambda: is_status(feeding, "unhealthy"))
        assert subjects.event_stream in str((await feeding()).problem)
        assert (await app.commands.execute(create(2))).status == "success"

        assert await declare(app.client, topology(subjects, settings.streams))
        await until(lambda: is_status(feeding, "healthy"))
        await until(lambda: has_fed(feeding, 2))
    assert [record.levelname for record in caplog.records].count("ERROR") == 2
    assert "the feed: recovered" in caplog.messages


async def has_fed(feeding: FeedSupervisor, position: int) -> bool:
    return feeding.feed.position == position


async def test_a_feed_that_waits_with_events_pending_is_degraded(
    app: WriteSide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.projections.feed.supervisor._STALLED_SECONDS", 0.1)
    key = f"$KV.{app.domain.codec.subjects.config_bucket}.feed.lease"
    await app.client.request(key, b'{"holder": "ghost", "seconds": 1}')
    feeding = FeedSupervisor(lambda: Feed(app.client, app.store, standby=0.01), pause=PAUSE)
    async with asyncio.timeout(30), running(feeding):
        assert (await app.commands.execute(create(1))).status == "success"
        await until(lambda: is_status(feeding, "degraded"))
        assert "position 0 have been pending" in str((await feeding()).problem)
        await until(lambda: has_fed(feeding, 1))
        await until(lambda: is_status(feeding, "healthy"))


async def test_it_stops_while_it_waits_for_the_next_try(app: WriteSide) -> None:
    subjects = app.domain.codec.subjects
    await app.client.api(f"STREAM.DELETE.{subjects.event_stream}")
    feeding = FeedSupervisor(lambda: Feed(app.client, app.store), pause=60)
    async with asyncio.timeout(10), running(feeding):
        await until(lambda: is_status(feeding, "unhealthy"))
