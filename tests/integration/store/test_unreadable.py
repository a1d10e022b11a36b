"""Events whose class or upcaster raises any error: they concern only readers that need them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from eventstore.application import running
from eventstore.audit import VerifySummary
from eventstore.client.client import Client
from eventstore.errors import InvalidPayload, UnreadableEvent
from eventstore.messages.codec import Codec
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Event
from eventstore.messages.upcasting import Upcaster
from eventstore.projections.database.database import Database
from eventstore.projections.feed.feed import Feed
from eventstore.projections.projection import Projection, Statement
from eventstore.projections.rebuild.rebuild import Rebuild
from eventstore.projections.worker.worker import ProjectionWorker
from eventstore.service.checks import check_findings
from eventstore.service.metrics import Metrics
from eventstore.store.store import EventStore
from eventstore.subscribers.subscriber import EventSubscriber
from eventstore.transfer import copy, export_log
from tests.integration.feeding import declare_feed, public, until_fed
from tests.integration.tampering import findings
from tests.unit.projections.following import following, until

BOUND = 20.0

tables = MetaData()
payment = Table("payment", tables, Column("position", Integer, primary_key=True))
shipment = Table("shipment", tables, Column("position", Integer, primary_key=True))


def recurse(_: object) -> None:
    recurse(_)


def divide(_: object) -> None:
    1 / 0  # noqa: B018


def look_up(_: object) -> None:
    dict[str, str]()["nothing"]


def give_up(_: object) -> None:
    raise NotImplementedError


def close(_: object) -> None:
    raise GeneratorExit


def cancel(_: object) -> None:
    raise asyncio.CancelledError


class Unspeakable(ValueError):
    def __str__(self) -> str:
        raise GeneratorExit


def say_nothing(_: object) -> None:
    raise Unspeakable


WAYS = [
    *((recurse, False), (divide, True), (look_up, False), (give_up, False), (recurse, True)),
    *((close, False), (close, True), (cancel, False), (cancel, True)),
    *((say_nothing, False), (say_nothing, True)),
]
"""What the code raises, and whether an upcaster does, or the class."""


class OldPaid(Event, subject="order.paid"):
    amount: str


class Shipped(Event, subject="order.shipped"):
    pass


OldPaid.__name__ = "Paid"


def refusing(domain: str, way: Callable[[object], None], *, upcaster: bool) -> Codec:
    """Code of today, whose class, or upcaster, takes no event of before."""
    if upcaster:

        class Paid(Event, subject="order.paid", schema_version=2):
            amount: str

        def up(data: dict[str, Any]) -> dict[str, Any]:
            way(data)
            return data

        return Codec(domain, [], [Paid, Shipped], [Upcaster.of(("Paid", 1), None, up)])

    class Paid(Event, subject="order.paid"):  # type: ignore[no-redef]
        amount: str

        def __post_init__(self) -> None:
            way(self)

    return Codec(domain, [], [Paid, Shipped])


@pytest.fixture(params=WAYS)
def codec(request: pytest.FixtureRequest, domain_name: str) -> Codec:
    way, upcaster = request.param
    return refusing(domain_name, way, upcaster=upcaster)


async def test_an_event_that_its_class_or_upcaster_refuses_concerns_only_who_needs_it(
    client: Client, codec: Codec, tmp_path: Path
) -> None:
    await declare_feed(client, codec)
    async with EventStore(client, Codec(codec.domain, [], [OldPaid, Shipped])) as old:
        await old.append("order", "o1", OldPaid(amount="12,50"))
        await old.append("order", "o2", Shipped())
        end = (await old.append("order", "o1", Shipped())).position
    payments = Projection("payments", tables=[payment], retries=0, on_poison="park")
    shipments = Projection("shipments", tables=[shipment], retries=0)
    paid_class = codec.event_types[0]

    def paid(event: Any, recorded: RecordedEvent) -> Statement:
        return insert(payment).values(position=recorded.position)

    paid.__annotations__ = {"event": paid_class, "recorded": RecordedEvent, "return": Statement}
    payments.handles(paid)

    @shipments.handles
    def shipped(event: Shipped, recorded: RecordedEvent) -> Statement:
        return insert(shipment).values(position=recorded.position)

    metrics = Metrics()
    async with (
        EventStore(client, codec, telemetry=metrics) as store,
        Database(tmp_path / "r.sqlite") as database,
    ):
        await database.migrate()
        await database.create_tables([payment, shipment])

        # Its own aggregate cannot be decided on, and that is said.
        with pytest.raises(UnreadableEvent, match=r"position 1 .*Paid [0-9a-f-]{36}") as error:
            await anext(store.read("order", "o1"))
        assert isinstance(error.value.cause, InvalidPayload)
        # Others go on.
        assert [event.position async for event in store.read("order", "o2")] == [2]
        assert [event.position async for event in store.read_all()] == [2, 3]
        worker = ProjectionWorker(store, database, [payments, shipments])
        async with following(worker):
            await worker.wait(end, BOUND)
        await Rebuild(store, database, shipments).run()
        await Rebuild(store, database, payments).run()
        async with database.engine.connect() as connection:
            rows = await connection.execute(select(shipment.c.position))
            assert rows.scalars().all() == [2, 3]

        heard: list[int] = []
        subscriber = EventSubscriber(client, codec, "mailer", max_attempts=1)

        @subscriber.handles
        async def shipping(event: Shipped, recorded: RecordedEvent) -> None:
            heard.append(recorded.position)

        refused = EventSubscriber(client, codec, "bookkeeper", max_attempts=1)

        async def booked(event: Any, recorded: RecordedEvent) -> None:
            raise AssertionError

        refused.subscribe([], booked)
        async with running(Feed(client, store), subscriber, refused), asyncio.timeout(BOUND):
            await until_fed(client, codec, end)
            await until(lambda: len(heard) == 2 and refused.parked == 3)
        assert heard == [2, 3]
        assert len(await public(client, codec)) == 3, "it is published for who can read it"

        found = check_findings(store.findings)
        assert found.status == "degraded"
        assert "1 unreadable event, last at position 1" in str(found.problem)
        assert found.facts["unreadable"] == {"count": 1, "positions": [1]}
        assert 'eventstore_log_findings_total{kind="unreadable"} 1.0' in metrics.render().decode()

    summary = VerifySummary()
    (unreadable,) = await findings(client, codec, read=True, summary=summary)
    assert (unreadable.kind, unreadable.position) == ("unreadable", 1)
    assert (summary.proven, summary.unreadable, summary.foreign) == (3, 1, 0)
    path = tmp_path / "log.gz"
    assert (await export_log(client, codec.subjects, path)).events == 3
    assert (await copy(path, tmp_path / "copy.gz", lambda event: event)).after == 3
