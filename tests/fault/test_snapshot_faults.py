"""A command is carried out once although its id is only in a snapshot, whoever dies."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from eventstore.client.client import Client
from eventstore.commands import Outcome, StateCache
from eventstore.commands.loader import Loader
from eventstore.messages.envelope import new_id
from eventstore.messages.types import Command
from eventstore.store.command_filter import CommandFilter
from eventstore.store.snapshots.format import Snapshot, SnapshotFormat
from tests.conftest import url_of
from tests.fault.command_process import POINTS, WAIT
from tests.fault.test_command_sigkill import COMMANDS, assert_carried_out_once, killed_at
from tests.integration.commanding import (
    FORGETFUL,
    Add,
    AddEach,
    Added,
    Counter,
    Line,
    RaiseTo,
    Take,
    counting,
    opened,
    until,
)
from tests.integration.store.test_snapshots import benched

Opened = Callable[[int], AbstractAsyncContextManager[Line]]


@pytest.fixture
def line_with(client: Client, domain_name: str) -> Opened:
    """A line whose aggregates have a snapshot every few events."""

    @asynccontextmanager
    async def line_with(every: int) -> AsyncIterator[Line]:
        async with opened(client, counting(domain_name, every), FORGETFUL) as line:
            yield line

    return line_with


async def sent_again(line: Line, command: Command, command_id: str) -> Outcome | None:
    """Send a command again when only the log remembers it."""
    outcomes = await line.jetstream.key_value(line.subjects.outcome_bucket)
    await outcomes.delete(command_id)

    async def is_taken() -> bool:
        return not (await line.commands.send(command, "c1", command_id=command_id)).duplicate

    await until(is_taken)
    await line.until_done()
    return await line.commands.outcome(command_id)


@pytest.mark.parametrize("kept", [0, 1_000_000], ids=["no states kept", "states kept"])
@pytest.mark.parametrize("every", [1, 2, 3])
async def test_a_command_from_before_the_snapshot_gets_its_first_outcome(
    line_with: Opened, every: int, kept: int
) -> None:
    async with line_with(every) as line:
        commands = [AddEach(amounts=[1, 2, 3]), *(Add(amount=7) for _ in range(3))]
        async with line.working(states=StateCache(kept)):
            first = [await line.commands.execute(command, "c1") for command in commands]
            await line.snapshots.drain(5)
        size = await line.log_size()
        async with benched(line) as bench:
            assert (await bench.load())[1] < every
        async with line.working(states=StateCache(kept)):
            for command, outcome in zip(commands, first, strict=True):
                assert await sent_again(line, command, outcome.command_id) == outcome
        assert await line.log_size() == size == 6
        assert await line.parked() == []


@pytest.mark.parametrize("kept", [0, 1_000_000], ids=["no states kept", "states kept"])
async def test_new_commands_that_a_filter_falsely_reports_are_carried_out(
    line_with: Opened, kept: int
) -> None:
    async with line_with(1_000) as line, benched(line) as bench:
        await bench.append(5)
        full = CommandFilter([bytearray(b"\xff" * 1024)])
        snapshot = Snapshot(Counter(15), await bench.store.head("counter", "c1"), full)
        await bench.put(SnapshotFormat(bench.decider).encode("c1", snapshot))
        async with line.working(
            states=StateCache(kept), store=bench.store, snapshots=bench.snapshots
        ):
            outcomes = [await line.commands.execute(Add(), "c1") for _ in range(10)]
        assert [outcome.version for outcome in outcomes] == list(range(6, 16))
        # With a cached state the log was read once, and its commands are known from then on.
        scanned = sum(range(5, 15)) + sum(range(10))
        assert bench.store.events_read == (5 if kept else scanned)


@pytest.mark.parametrize("point", POINTS)
async def test_a_killed_worker_that_had_loaded_a_snapshot(line_with: Opened, point: str) -> None:
    async with line_with(1) as line:
        async with line.working(ack_wait=WAIT):
            await line.commands.execute(Add(), "c1")
            await line.snapshots.drain(5)
        command_id = new_id()
        await line.commands.send(COMMANDS["two events"], "c1", command_id=command_id)
        await killed_at(point, line, "1")
        async with line.working(ack_wait=WAIT):
            await line.until_done()
            await line.commands.execute(Add(amount=10), "c1")
            await line.snapshots.drain(5)
        outcome = await line.commands.outcome(command_id)
        await assert_carried_out_once(line, "two events", command_id, outcome)
        async with line.working(ack_wait=WAIT):
            again = await sent_again(line, AddEach(amounts=[1, 1]), command_id)
        assert again == outcome
        await assert_carried_out_once(line, "two events", command_id, again)


async def test_decisions_from_snapshots_equal_those_from_the_log(
    line_with: Opened,
) -> None:
    chance = random.Random(7)  # noqa: S311  # the same in every run
    async with line_with(2) as line, line.working(states=StateCache(0)):
        totals = dict.fromkeys(("c1", "c2"), 0)
        for _ in range(120):
            key, number = chance.choice(sorted(totals)), chance.randint(1, 6)
            command: Command = chance.choice(
                [Add(amount=number), Take(amount=4 * number), RaiseTo(total=9 * number)]
            )
            outcome = await line.commands.execute(command, key)
            changes: dict[type[Command], int] = {
                Add: number,
                Take: -4 * number if totals[key] >= 4 * number else 0,
                RaiseTo: max(0, 9 * number - totals[key]),
            }
            totals[key] += changes[type(command)]
            assert bool(outcome.event_ids) == bool(changes[type(command)])
        await line.snapshots.drain(5)
        for key, total in totals.items():
            kept = await Loader(line.store, line.snapshots).load(
                line.domain.decider("counter"), key
            )
            amounts = [e.data.amount for e in await line.read(key) if isinstance(e.data, Added)]
            assert kept.state == Counter(sum(amounts)) == Counter(total)


async def test_workers_killed_while_they_take_snapshots_repeat_nothing(
    line_with: Opened,
) -> None:
    async with line_with(3) as line:
        program = f"""
            import asyncio
            from eventstore.client.client import connect
            from eventstore.commands import StateCache
            from tests.conftest import settings_for
            from tests.integration.commanding import FORGETFUL, counting, opened

            async def main():
                async with connect(settings_for({url_of(line.client)!r})) as client:
                    domain = counting({line.domain.name!r}, 3)
                    async with opened(client, domain, FORGETFUL) as line:
                        states = StateCache(0)
                        await line.worker(ack_wait={WAIT}, in_flight=8, states=states).run()

            asyncio.run(main())
        """
        for number in range(300):
            await line.commands.send(Add(amount=number), f"c{number % 5}")
        for enough in (40, 120):
            process = subprocess.Popen(  # noqa: ASYNC220  # returns at once
                [sys.executable, "-c", textwrap.dedent(program)]
            )
            try:
                await until(lambda enough=enough: has_recorded(line, enough))  # type: ignore[misc]
            finally:
                process.send_signal(signal.SIGKILL)
                await asyncio.to_thread(process.wait)
        async with line.working(ack_wait=WAIT, states=StateCache(0)):
            await line.until_done()
            await line.snapshots.drain(5)
        assert await line.log_size() == 300
        async with benched(line) as bench:
            for number in range(5):
                kept, read = await bench.load(f"c{number}")
                assert kept.state == Counter(sum(range(number, 300, 5)))
                assert read < 3


async def has_recorded(line: Line, count: int) -> bool:
    return await line.log_size() >= count
