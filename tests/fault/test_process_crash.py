"""A process manager that dies between any two of its steps: each event has one reaction.

And each of its commands, and each of its timers, is carried out once.
"""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.commands import CommandHandler, CommandWorker, Outcomes
from eventstore.commands.decoding import DecodedCommand
from eventstore.messages.outcome import Outcome
from eventstore.processes import ProcessRejections
from eventstore.projections.feed.feed import Feed
from tests.conftest import url_of
from tests.fault.reacting_process import POINTS, WAIT
from tests.integration.trading import Note, Trade, fulfilling, traded


@pytest.mark.parametrize("point", POINTS)
async def test_each_event_leads_to_one_reaction_and_each_command_to_one_event(
    client: Client, domain_name: str, point: str
) -> None:
    async with traded(client, domain_name, fulfilling()) as trade:
        dying = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fault.reacting_process"),
            *(url_of(client), domain_name, point),
        )
        await trade.place("o-1", "nothing")
        await trade.commands.execute(Note(text="several"), "o-1")
        assert await asyncio.wait_for(dying.wait(), 30) == -signal.SIGKILL
        async with trade.reacting(ack_wait=WAIT):
            await trade.until("o-1", "Placed", *["Noted"] * 4)
        await assert_once(trade)


async def assert_once(trade: Trade) -> None:
    notes = [each.data.text for each in (await trade.events("order", "o-1"))[1:]]  # type: ignore[attr-defined]
    assert notes[0] == "several"
    assert sorted(notes[1:]) == ["one", "three", "two"]
    triggers = [each.data.trigger.id for each in await trade.records("o-1")]  # type: ignore[attr-defined]
    events = [each.id for each in await trade.events("order", "o-1")]
    assert triggers == events
    assert await trade.parked() == []


class Died(Exception):
    """As if the worker had died here."""


class FailingRejections(ProcessRejections):
    """Fails once, before or after the rejection is recorded."""

    def __init__(self, trade: Trade, *, after: bool) -> None:
        super().__init__([trade.process], trade.store)
        self.failures = 0
        self._after = after

    async def __call__(self, command: DecodedCommand, outcome: Outcome) -> None:
        if self._after or self.failures:
            await super().__call__(command, outcome)
        if not self.failures:
            self.failures += 1
            raise Died


@pytest.mark.parametrize("after", [False, True])
async def test_a_rejection_arrives_once_if_the_worker_fails_beside_it(
    client: Client, domain_name: str, after: bool
) -> None:
    async with traded(client, domain_name, fulfilling(), worker=False) as trade:
        codec = trade.domain.codec
        failing = FailingRejections(trade, after=after)
        handler = CommandHandler(trade.store, trade.domain, Outcomes(client, codec.subjects))
        worker = CommandWorker(client, codec, handler, rejections=failing)
        async with running(worker, Feed(client, trade.store)), trade.reacting():
            await trade.place("o-1", "tea")
            await trade.until("o-1", "Placed", "FulfilmentCommandRejected", "Abandoned")
        assert failing.failures == 1
        records = [each.type for each in await trade.records("o-1")]
        assert records.count("FulfilmentCommandRejected") == 1
