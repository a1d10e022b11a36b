"""Commands that expect a version of their aggregate: optimistic concurrency from the caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from eventstore.client.client import Client
from eventstore.errors import InvalidHeader
from eventstore.messages.envelope import new_id
from tests.integration.commanding import FORGETFUL, Add, Added, Line, counting, opened


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name), FORGETFUL) as line:
        yield line


async def test_a_command_is_decided_only_at_the_version_it_expects(line: Line) -> None:
    async with asyncio.timeout(45), line.working():
        created = await line.commands.execute(Add(), "c1", expected=0)
        outdated = await line.commands.execute(Add(), "c1", expected=0)
        current = await line.commands.execute(Add(), "c1", expected=1)
        await line.until_done()
    assert (created.status, created.version) == ("success", 1)
    assert (outdated.status, outdated.code, outdated.version) == ("rejected", "conflict", 1)
    assert "counter c1 was expected at version 0, but is at 1" in outdated.message
    assert (current.status, current.version) == ("success", 2)
    assert await line.parked() == []


async def test_an_expectation_is_checked_against_events_of_other_writers(line: Line) -> None:
    async with asyncio.timeout(45), line.working():
        await line.commands.execute(Add(), "c1")
        await line.store.append("counter", "c1", Added(amount=5))  # the worker's cache is outdated
        met = await line.commands.execute(Add(), "c1", expected=2)
        await line.store.append("counter", "c1", Added(amount=5))
        missed = await line.commands.execute(Add(), "c1", expected=3)
    assert (met.status, met.version) == ("success", 3)
    assert (missed.status, missed.code, missed.version) == ("rejected", "conflict", 4)


async def test_of_many_commands_at_one_version_one_succeeds(line: Line) -> None:
    async with asyncio.timeout(45), line.working(), line.working():
        outcomes = await asyncio.gather(
            *(line.commands.execute(Add(), "c1", expected=0, timeout=40) for _ in range(10))
        )
    assert sorted(each.status for each in outcomes) == ["rejected"] * 9 + ["success"]
    assert await line.log_size() == 1


async def test_a_repeat_gets_the_first_outcome_and_with_another_expectation_is_refused(
    line: Line,
) -> None:
    own, lost = new_id(), new_id()
    async with asyncio.timeout(45), line.working():
        first = await line.commands.execute(Add(), "c1", command_id=own, expected=0)
        rejected = await line.commands.execute(Add(), "c1", command_id=lost, expected=0)
        again = await line.commands.execute(Add(), "c1", command_id=own, expected=0)
        assert again == first
        other = await line.commands.execute(Add(), "c1", command_id=lost, expected=1)
    assert rejected.code == "conflict"
    assert (other.status, other.code) == ("error", "command_id_reused")
    assert await line.log_size() == 1


@pytest.mark.parametrize("expected", [-1, 10**18])
async def test_an_illegal_expectation_is_refused_before_anything_is_sent(
    line: Line, expected: int
) -> None:
    with pytest.raises(InvalidHeader, match=r"X-Expected-Version is .*, not a whole number from 0"):
        await line.commands.send(Add(), "c1", expected=expected)
    assert await line.queued() == 0


async def test_an_illegal_expectation_of_any_publisher_is_an_error(line: Line) -> None:
    headers = {"X-Aggregate-ID": "c1", "X-Expected-Version": "newest"}
    subject = line.subjects.command("counter", "add")
    async with asyncio.timeout(45), line.working():
        await line.jetstream.publish(subject, b"{}", headers=headers)
        await line.until_done()
    (record,) = await line.parked()
    assert record["code"] == "invalid_header"
    assert "X-Expected-Version" in record["reason"]


async def test_a_uuid_is_taken_as_an_id_everywhere(line: Line) -> None:
    own = uuid4()
    async with asyncio.timeout(45), line.working():
        outcome = await line.commands.execute(Add(), own)
        appended = await line.store.append("counter", own, Added(amount=2), expected=1)
        events = [event async for event in line.store.read("counter", own)]
        head = await line.store.head("counter", own)
    assert (outcome.aggregate_id, appended.aggregate_id) == (str(own), str(own))
    assert [event.aggregate_id for event in events] == [str(own)] * 2
    assert head == appended.head
