"""The collector: one row for each command with an outcome, the last one, after any failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.commands import Outcome
from eventstore.commands.outcome_log import OutcomeLog, OutcomeRecord
from eventstore.config import StreamSettings
from eventstore.errors import InvalidId, RequestTimeout
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.envelope import Identity, new_id
from eventstore.messages.types import Command
from eventstore.projections.audit import CommandCollector, commands
from eventstore.projections.audit.models import audit_command
from eventstore.projections.database.database import Database
from tests.integration.commanding import (
    FORGETFUL,
    Add,
    Line,
    RaiseTo,
    Refuse,
    Take,
    counting,
    opened,
    until,
)

BOUND = 45.0


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name), FORGETFUL) as line:
        yield line


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "read_model.sqlite") as database:
        await database.migrate()
        yield database


@asynccontextmanager
async def collecting(line: Line, database: Database) -> AsyncIterator[CommandCollector]:
    collector = CommandCollector(line.client, line.subjects, database, pause=0.01)
    async with running(collector):
        yield collector


async def rows(database: Database) -> dict[str, dict[str, Any]]:
    async with database.engine.connect() as connection:
        found = (await connection.execute(select(audit_command))).mappings().all()
    return {row["id"]: dict(row) for row in found}


def as_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.command_id,
        "aggregate": outcome.aggregate,
        "aggregate_id": outcome.aggregate_id,
        "version": outcome.version,
        "position": outcome.position,
        "status": outcome.status,
        "code": outcome.code,
        "message": outcome.message.replace("\x00", "\ufffd"),
    }


def parts_of(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in as_row(Outcome.error(InvalidId(""), ""))}


async def test_every_command_has_one_row_with_its_final_outcome(
    line: Line, database: Database
) -> None:
    """Successes, rejections, errors, repeats; the collector stops and goes on in between."""
    chance = random.Random(7)  # noqa: S311
    final: dict[str, Outcome] = {}
    sent: dict[str, Command] = {}

    async def send_some() -> None:
        for _ in range(20):
            own = chance.choice([new_id(), *final])
            command = chance.choice(
                [Add(amount=2), Take(amount=3), RaiseTo(total=1), Refuse(length=3)]
            )
            command = sent.setdefault(own, command)
            known = final.get(own)
            outcome = await line.commands.execute(command, "c1", command_id=own)
            assert known is None or not known.is_final or outcome == known
            final[own] = outcome
        for payload in (b"{", b'{"amount": "x"}'):
            own = new_id()
            headers = {"X-Event-ID": own, "X-Aggregate-ID": "c1"}
            await line.client.request(
                line.subjects.command("counter", "add"), payload, headers=headers
            )
            await until(lambda own=own: _has_outcome(line, own))  # type: ignore[misc]
            failed = await line.outcomes.get(own)
            assert failed is not None
            final[own] = failed

    async with line.working():
        await send_some()
        for _ in range(3):
            async with collecting(line, database) as collector:
                await send_some()
                await collector.wait(BOUND)
            await send_some()
        async with collecting(line, database) as collector:
            await collector.wait(BOUND)

    found = await rows(database)
    assert {own: parts_of(row) for own, row in found.items()} == {
        own: as_row(outcome) for own, outcome in final.items()
    }
    assert {row["status"] for row in found.values()} == {"success", "rejected", "error"}


async def test_notes_about_commands_are_not_read(line: Line) -> None:
    own = new_id()
    await line.outcomes.put(Outcome.error(InvalidId(""), own))
    await line.outcomes.note_sequence(7, own)
    log = OutcomeLog(line.client, line.subjects)

    assert (await log.state())[1] == 2
    assert await log.last() == 1


async def _has_outcome(line: Line, command_id: str) -> bool:
    return await line.outcomes.get(command_id) is not None


async def test_outcomes_are_stored_with_the_details_for_audits(
    line: Line, database: Database
) -> None:
    cause = Identity.root()
    async with line.working(), collecting(line, database) as collector:
        taken = await line.commands.execute(Take(amount=1), "c1", cause=cause, actor="Anna ☃")
        bare = await line.client.request(
            line.subjects.command("counter", "add"),
            b"{",
            headers={"X-Actor": "bob", "X-Correlation-ID": "nonsense", "Nats-Msg-Id": "mine"},
        )
        assert bare.data
        await line.until_done()
        await collector.wait(BOUND)
        found = await rows(database)

    row = found.pop(taken.command_id)
    assert (row["type"], row["actor"], row["deliveries"]) == ("Take", "Anna ☃", 1)
    assert (row["correlation_id"], row["causation_id"]) == (cause.id, cause.id)
    assert row["time"] <= row["finished_at"]
    (refused,) = found.values()
    assert (refused["type"], refused["actor"], refused["code"]) == ("Add", "bob", "invalid_header")
    assert refused["correlation_id"] == refused["causation_id"] == refused["id"]


async def test_an_outcome_of_an_earlier_version_is_read_without_what_it_lacks(
    line: Line, database: Database
) -> None:
    old = Outcome(status="success", message="", code="ok", command_id=new_id())
    await line.outcomes.put(old)
    async with collecting(line, database) as collector:
        await collector.wait(BOUND)

    row = (await rows(database))[old.command_id]
    assert parts_of(row) == as_row(old)
    unknown = ("type", "actor", "correlation_id", "causation_id", "deliveries")
    assert [row[name] for name in unknown] == [None] * 5
    assert row["time"] == row["finished_at"]


async def test_outcomes_that_follow_each_other_are_stored_in_few_transactions(
    line: Line, tmp_path: Path
) -> None:
    transactions = 0

    class Counting(Database):
        async def transact(self, *arguments: Any, **options: Any) -> Any:
            nonlocal transactions
            transactions += 1
            return await super().transact(*arguments, **options)

    async with Counting(tmp_path / "read_model.sqlite") as database:
        await database.migrate()
        async with collecting(line, database) as collector:
            for _ in range(100):
                await line.outcomes.put(Outcome.error(InvalidId(""), new_id()))
            await collector.wait(BOUND)
            assert len(await rows(database)) == 100
    assert transactions < 50


async def test_an_error_is_replaced_by_a_later_outcome(line: Line, database: Database) -> None:
    own = new_id()
    async with collecting(line, database) as collector:
        await line.outcomes.put(Outcome.error(RequestTimeout("slow"), own, "counter", "c1"))
        await collector.wait(BOUND)
        assert (await rows(database))[own]["status"] == "error"
        async with line.working():
            await line.commands.execute(Add(), "c1", command_id=own)
        await collector.wait(BOUND)
        (row,) = (await rows(database)).values()
    assert (row["status"], row["message"]) == ("success", "Added")


async def test_a_recreated_bucket_is_read_from_its_beginning(
    line: Line, database: Database
) -> None:
    async with line.working():
        first = [await line.commands.execute(Take(amount=n), "c1") for n in range(1, 4)]
        async with collecting(line, database) as collector:
            await collector.wait(BOUND)
        await line.client.api(f"STREAM.DELETE.KV_{line.subjects.outcome_bucket}")
        await declare(line.client, topology(line.subjects, StreamSettings(duplicate_window_ms=100)))
        second = [await line.commands.execute(Take(amount=n), "c1") for n in range(1, 6)]
        async with collecting(line, database) as collector:
            await collector.wait(BOUND)

    assert set(await rows(database)) == {outcome.command_id for outcome in first + second}


async def test_of_two_collectors_one_is_standby_and_takes_over(
    line: Line, database: Database
) -> None:
    async def execute(*numbers: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in numbers:
                tasks.create_task(line.commands.execute(Add(), f"c{number}"))

    async with line.working():
        async with collecting(line, database) as first:
            await first.wait(BOUND)
            async with collecting(line, database) as second:

                async def stands_by() -> bool:
                    return "standby" in (await second()).facts

                await until(stands_by)
                await execute(*range(15))
                await first.wait(BOUND)
                first.stop()
                await execute(*range(15, 30))
                await second.wait(BOUND)
                assert (await second()).facts == {"position": second.position}
        async with database.engine.connect() as connection:
            count = await connection.scalar(select(func.count()).select_from(audit_command))
    assert count == 30


async def test_a_failure_is_reported_until_it_recovers(line: Line, database: Database) -> None:
    stream = f"KV_{line.subjects.outcome_bucket}"
    settings = (await line.client.api(f"STREAM.INFO.{stream}"))["config"]
    async with collecting(line, database) as collector:
        await collector.wait(BOUND)
        await line.client.api(f"STREAM.DELETE.{stream}")

        async def is_degraded() -> bool:
            """For want of the bucket; before that is found, its consumer is gone."""
            found = await collector()
            return found.status == "degraded" and stream in str(found.problem)

        async def is_healthy() -> bool:
            return (await collector()).status == "healthy"

        await until(is_degraded)
        await line.client.api(f"STREAM.CREATE.{stream}", settings)
        await until(is_healthy)


async def test_malformed_outcomes_are_skipped(line: Line, database: Database) -> None:
    await line.client.request(f"$KV.{line.subjects.outcome_bucket}.x", b"rubbish")
    async with collecting(line, database) as collector:
        await collector.wait(BOUND)
    assert await rows(database) == {}
    assert (await OutcomeLog(line.client, line.subjects).state())[1] == 1


async def test_numbers_and_times_beyond_all_bounds_end_nothing(
    line: Line, database: Database
) -> None:
    outcome = Outcome(status="success", message="", code="ok", command_id=new_id())
    data = outcome.to_json()
    subject = f"$KV.{line.subjects.outcome_bucket}."
    large = data.replace(b'"version":0', b'"version":9223372036854775808')
    await line.client.request(f"{subject}x", large)
    headers = {"X-Accepted-At": "0001-01-01T00:00:00+23:00"}
    await line.client.request(f"{subject}{outcome.command_id}", data, headers=headers)
    async with collecting(line, database) as collector:
        await collector.wait(BOUND)
    assert list(await rows(database)) == [outcome.command_id]


@pytest.mark.parametrize("error", [OverflowError, IntegrityError])
async def test_a_row_that_the_database_refuses_is_passed_over_and_logged_once(
    line: Line,
    database: Database,
    error: type[Exception],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [new_id() for _ in range(3)]
    for own in ids:
        await line.outcomes.put(Outcome.error(InvalidId(""), own))
    made = commands._row

    def refused(kept: OutcomeRecord) -> dict[str, Any]:
        row = made(kept)
        if row["id"] == ids[1]:
            row |= {"version": 2**63} if error is OverflowError else {"status": None}
        return row

    monkeypatch.setattr(commands, "_row", refused)
    async with collecting(line, database) as collector:
        await collector.wait(BOUND)
    assert set(await rows(database)) == {ids[0], ids[2]}
    assert [ids[1] in each.getMessage() for each in caplog.records] == [True]


@pytest.mark.parametrize("left", [0, 1])
async def test_expired_outcomes_are_not_waited_for(
    line: Line, database: Database, left: int
) -> None:
    for number in range(3):
        await line.client.request(f"$KV.{line.subjects.outcome_bucket}.x{number}", b"rubbish")
    stream = f"KV_{line.subjects.outcome_bucket}"
    for number in range(left, 3):
        subject = f"$KV.{line.subjects.outcome_bucket}.x{number}"
        await line.client.api(f"STREAM.PURGE.{stream}", {"filter": subject})
    async with collecting(line, database) as collector:
        await collector.wait(5)
        assert collector.position == left
    assert (await OutcomeLog(line.client, line.subjects).state())[1] == 3
