"""States that are changed in place, or are None: a decision is always about the log's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventstore.client.client import Client
from eventstore.decider.decider import Decider
from eventstore.decider.domain import Domain
from eventstore.errors import Rejected
from eventstore.messages.types import Command, Event
from tests.integration.commanding import Line, opened


class Pay(Command, subject="purse.pay", creates=True):
    amounts: list[int]


class Spill(Command, subject="purse.spill"):
    """Decides an event that the purse cannot evolve by, after one that it can."""


class Empty(Command, subject="purse.empty"):
    pass


class Show(Command, subject="purse.show"):
    pass


class Paid(Event, subject="purse.paid"):
    amount: int


class Spilt(Event, subject="purse.spilt"):
    pass


class Emptied(Event, subject="purse.emptied"):
    pass


def decided(purse: Decider[Any]) -> Decider[Any]:
    @purse.decides
    def pay(purse: Any, command: Pay) -> list[Paid]:
        return [Paid(amount=amount) for amount in command.amounts]

    @purse.decides
    def spill(purse: Any, command: Spill) -> list[Event]:
        return [Paid(amount=100), Spilt()]

    @purse.decides
    def show(purse: Any, command: Show) -> None:
        raise Rejected("shown", str(purse))

    return purse


def changed_in_place(**options: Any) -> Decider[dict[str, int]]:
    purse: Decider[dict[str, int]] = decided(Decider("purse", initial=dict, **options))

    @purse.evolves
    def paid(purse: dict[str, int], event: Paid) -> dict[str, int]:
        purse["total"] = purse.get("total", 0) + event.amount
        return purse

    @purse.evolves
    def spilt(purse: dict[str, int], event: Spilt) -> dict[str, int]:
        raise RuntimeError("spilt")

    return purse


def starting_full() -> int | None:
    return 10


def none_when_empty() -> Decider[int | None]:
    purse: Decider[int | None] = decided(Decider("purse", initial=starting_full))

    @purse.decides
    def empty(purse: int | None, command: Empty) -> Emptied:
        return Emptied()

    @purse.evolves
    def paid(purse: int | None, event: Paid) -> int | None:
        return (purse or 0) + event.amount

    @purse.evolves
    def emptied(purse: int | None, event: Emptied) -> int | None:
        return None

    return purse


@pytest.fixture
def start(client: Client, domain_name: str) -> Callable[..., Any]:
    def start(purse: Decider[Any]) -> Any:
        return opened(client, Domain(domain_name, [purse]))

    return start


async def shown(line: Line) -> str:
    return (await line.commands.execute(Show(), "p1")).message


async def test_events_that_were_not_appended_leave_the_state_as_it_was(
    start: Callable[..., Any],
) -> None:
    async with start(changed_in_place()) as line, line.working(max_failures=1):
        await line.commands.execute(Pay(amounts=[1]), "p1")

        assert (await line.commands.execute(Spill(), "p1")).status == "error"
        assert await shown(line) == "{'total': 1}"


async def test_a_snapshot_has_no_events_of_after_it_was_taken(start: Callable[..., Any]) -> None:
    async with start(changed_in_place(snapshot_every=2)) as line:
        await line.store.append("purse", "p1", [Paid(amount=1), Paid(amount=1)])
        async with line.working():  # loads, takes a snapshot, and changes the state at once
            await line.commands.execute(Pay(amounts=[5]), "p1")
        await line.snapshots.drain(5)

        async with line.working():
            assert await shown(line) == "{'total': 7}"


async def test_a_state_that_has_become_none_is_not_the_initial_one(
    start: Callable[..., Any],
) -> None:
    async with start(none_when_empty()) as line:
        async with line.working():
            await line.commands.execute(Empty(), "p1")
            await line.commands.execute(Pay(amounts=[3]), "p1")
            folded = await shown(line)
        async with line.working():  # which loads it from the log
            assert await shown(line) == folded == "3"
