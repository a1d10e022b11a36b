"""An application: its parts run while its block does, and end with it, whoever fails."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from eventstore import nix
from eventstore.application import WriteSide, running
from eventstore.client.client import Client
from eventstore.config import Settings
from eventstore.errors import ConnectFailed, StreamDrift, StreamMissing
from eventstore.nix import AddFlakeInput, CreateFlake

CREATE = CreateFlake(path="./x", description="x")
BOUND = 45.0


class Worker:
    """A part that notes what happens to it; stubborn, it does not stop when told to."""

    def __init__(self, *, stubborn: bool = False, fails: BaseException | None = None) -> None:
        self.ended = ""
        self._stubborn = stubborn
        self._fails = fails
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._stopping.wait()
            if self._fails is not None:
                raise self._fails
            self.ended = "stopped"
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise

    def stop(self) -> None:
        if not self._stubborn:
            self._stopping.set()

    fail = stop  # it then fails at once


async def test_parts_run_beside_the_block_and_stop_at_its_end() -> None:
    one, two = Worker(), Worker()
    async with asyncio.timeout(BOUND), running(one, two):
        assert (one.ended, two.ended) == ("", "")

    assert (one.ended, two.ended) == ("stopped", "stopped")


async def test_no_parts_at_all_are_run_too() -> None:
    async with running():
        pass


async def test_the_first_failure_ends_the_block_and_the_others_and_is_raised() -> None:
    failing, other = Worker(fails=LookupError("first")), Worker()

    async def block() -> None:
        async with asyncio.timeout(BOUND), running(failing, other):
            failing.fail()
            await asyncio.Event().wait()

    with pytest.raises(LookupError, match="first"):
        await block()

    assert other.ended == "cancelled"


async def test_a_failure_while_stopping_is_raised_too() -> None:
    failing, other = Worker(fails=LookupError("late")), Worker()
    with pytest.raises(LookupError, match="late"):
        async with asyncio.timeout(BOUND), running(failing, other):
            pass

    assert other.ended in {"stopped", "cancelled"}


async def test_what_the_block_raises_is_raised() -> None:
    part = Worker()

    async def block() -> None:
        async with asyncio.timeout(BOUND), running(part):
            await asyncio.sleep(0)  # so that the part has begun
            raise LookupError("block")

    with pytest.raises(LookupError, match="block"):
        await block()

    assert part.ended == "cancelled"


async def test_a_part_that_does_not_stop_is_cancelled_after_the_grace() -> None:
    stubborn, other = Worker(stubborn=True), Worker()
    async with asyncio.timeout(BOUND), running(stubborn, other, grace=0.05):
        pass

    assert (stubborn.ended, other.ended) == ("cancelled", "stopped")


async def test_the_block_can_be_cancelled() -> None:
    part = Worker()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), running(part):
            await asyncio.Event().wait()

    assert part.ended == "cancelled"


async def test_commands_are_carried_out_inside_of_it(settings: Settings, domain_name: str) -> None:
    async with WriteSide(nix.domain(), settings) as app:
        assert app.domain.name == domain_name
        outcome = await app.commands.execute(CREATE, "mine")
        rejected = await app.commands.execute(CREATE, "mine")
        events = [event async for event in app.store.read("flake", "mine")]

    assert (outcome.status, outcome.version) == ("success", 1)
    assert (rejected.status, rejected.code) == ("rejected", "already_exists")
    assert [event.type for event in events] == ["FlakeCreated"]
    assert app.client.is_closed


async def test_what_was_accepted_before_its_end_is_carried_out_once(settings: Settings) -> None:
    async with WriteSide(nix.domain(), settings) as app:
        await app.commands.execute(CREATE, "mine")
        sent = [
            await app.commands.send(AddFlakeInput(name=f"n{n}", url="u"), "mine") for n in range(50)
        ]

    async with WriteSide(nix.domain(), settings) as app:
        last = await app.commands.execute(AddFlakeInput(name="last", url="u"), "mine")
        events = [event async for event in app.store.read("flake", "mine")]

    assert last.status == "success"
    assert sorted(event.causation_id for event in events[1:]) == sorted(
        [last.command_id, *(each.command_id for each in sent)]
    )


async def test_without_a_server_it_does_not_begin(settings: Settings) -> None:
    with pytest.raises(ConnectFailed):
        async with WriteSide(nix.domain(), settings.with_url("nats://127.0.0.1:1")):
            pytest.fail("it began")


async def test_on_streams_that_differ_it_does_not_begin_and_leaves_nothing_open(
    settings: Settings, client: Client
) -> None:
    async with WriteSide(nix.domain(), settings):
        pass
    other = msgspec.structs.replace(
        settings, streams=msgspec.structs.replace(settings.streams, compression=True)
    )
    before = asyncio.all_tasks()
    with pytest.raises(StreamDrift):
        async with WriteSide(nix.domain(), other):
            pytest.fail("it began")

    assert asyncio.all_tasks() == before


async def test_a_worker_that_fails_ends_the_block(
    settings: Settings, client: Client, domain_name: str
) -> None:
    async def block() -> None:
        async with asyncio.timeout(BOUND), WriteSide(nix.domain(), settings):
            await client.api(f"STREAM.DELETE.{domain_name.upper()}_CMD")
            await asyncio.Event().wait()

    with pytest.raises(StreamMissing, match="_CMD does not exist"):
        await block()
