"""The scenario kit of subscribers, and declarations without a connection."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest

from eventstore.commands import CommandClient
from eventstore.errors import (
    DeciderError,
    InvalidHeader,
    InvalidId,
    InvalidSubject,
    InvalidTimer,
    UnknownType,
)
from eventstore.messages.events import RecordedEvent
from eventstore.messages.types import Command
from eventstore.nix import FlakeInputAdded, MarkPackageStale, PackageBuilt
from eventstore.subscribers.declaration import Subscriber
from eventstore.subscribers.testing import START, Commands, scenario

BuildsOf = Callable[[str, int], Awaitable[dict[str, int]]]

stale_packages = Subscriber("stale-packages")


@stale_packages.handles
async def added(
    event: FlakeInputAdded, recorded: RecordedEvent, *, commands: CommandClient, builds_of: BuildsOf
) -> None:
    """Marks what was built from the flake, which it looks up."""
    reason = f"flake {recorded.aggregate_id}: {event.name} added"
    builds = await builds_of(recorded.aggregate_id, recorded.position)
    for package_id, build in sorted(builds.items()):
        await commands.send(
            MarkPackageStale(reason=reason, inputs=[event.name], build=build), package_id
        )


ADDED = FlakeInputAdded(name="nixpkgs", url="github:NixOS/nixpkgs")
REASON = "flake f1: nixpkgs added"


async def two_builds(_flake_id: str, _position: int) -> dict[str, int]:
    return {"p2": 3, "p1": 1}


def mark(build: int) -> MarkPackageStale:
    return MarkPackageStale(reason=REASON, inputs=["nixpkgs"], build=build)


def test_the_commands_are_those_that_the_events_lead_to() -> None:
    outcome = scenario(stale_packages, builds_of=two_builds).when("f1", ADDED)
    outcome.then(("p1", mark(1)), ("p2", mark(3)))
    with pytest.raises(AssertionError, match="but got  MarkPackageStale"):
        outcome.then_nothing()


async def test_it_works_inside_an_event_loop() -> None:
    scenario(stale_packages, builds_of=two_builds).when("f1", ADDED).then(
        ("p1", mark(1)), ("p2", mark(3))
    )


def test_what_given_events_lead_to_does_not_count() -> None:
    seen: list[RecordedEvent] = []

    async def none_built(_flake_id: str, position: int) -> dict[str, int]:
        return {"p1": position} if position < 3 else {}

    watcher = Subscriber("watcher").subscribe([FlakeInputAdded], recording(seen))
    made = scenario(watcher).given("f1", ADDED).given("f2", ADDED, actor="ann")
    made.when("f1", ADDED, time=datetime(2027, 1, 1, tzinfo=UTC)).then_nothing()
    assert [(each.aggregate_id, each.version, each.position) for each in seen] == [
        ("f1", 1, 1),
        ("f2", 1, 2),
        ("f1", 2, 3),
    ]
    assert seen[0].envelope.timestamp.startswith(START.date().isoformat())
    assert seen[1].envelope.actor == "ann"
    given = scenario(stale_packages, builds_of=none_built).given("f1", ADDED, ADDED)
    given.when("f1", ADDED).then_nothing()


def recording(seen: list[RecordedEvent]) -> Callable[..., Any]:
    async def record(_event: FlakeInputAdded, recorded: RecordedEvent) -> None:
        seen.append(recorded)

    return record


def test_a_handler_that_raises_fails_the_scenario() -> None:
    async def unknown(_flake_id: str, _position: int) -> dict[str, int]:
        raise LookupError("no flake")

    outcome = scenario(stale_packages, builds_of=unknown).when("f1", ADDED)
    assert str(outcome.then_fails(LookupError)) == "no flake"
    with pytest.raises(AssertionError, match="the handler raised LookupError"):
        outcome.then_nothing()
    with pytest.raises(AssertionError, match="expected ValueError"):
        outcome.then_fails(ValueError)


def test_an_event_without_a_handler_is_refused() -> None:
    built = PackageBuilt(flake_ref="f1", attribute="hello", output_path="/x")
    with pytest.raises(UnknownType, match="stale-packages has no handler of PackageBuilt"):
        scenario(stale_packages, builds_of=two_builds).when("p1", built)


def test_a_missing_resource_is_named() -> None:
    with pytest.raises(DeciderError, match="needs builds_of, which is not given; there is comm"):
        scenario(stale_packages).when("f1", ADDED)


async def test_recorded_commands_have_outcomes() -> None:
    commands = Commands()
    sent = await commands.send(mark(1), "p1")
    outcome = await commands.execute(mark(1), "p1")
    assert (sent.aggregate_id, outcome.status) == ("p1", "success")
    assert commands.sent == [("p1", mark(1))] * 2


async def test_recorded_timers_can_be_replaced_and_cancelled() -> None:
    commands, hour = Commands(), timedelta(hours=1)
    await commands.schedule("stale", mark(1), "p1", after=hour)
    scheduled = await commands.schedule("stale", mark(2), "p2", after=2 * hour)
    sent = await commands.send(mark(1), "p1", at=START + hour)
    await commands.schedule("daily", mark(1), "p1", cron="@daily")
    schedule, to, command = commands.timers["stale"]
    assert (schedule.at, to, command) == (START + 2 * hour, "p2", mark(2))
    assert (scheduled.at, sent.due) == (START + 2 * hour, START + hour)
    assert commands.sent == []
    assert set(commands.timers) == {"stale", sent.command_id, "daily"}
    assert await commands.cancel("stale")
    assert not await commands.cancel("stale")
    with pytest.raises(InvalidTimer, match="either a time"):
        await commands.schedule("stale", mark(1), "p1")


SELLER = uuid.UUID("3f687bd3-5849-4f1f-a4d3-89322f67d381")


class Sell(Command, subject="sale.sell"):
    pass


class Offer(Command, subject="sale.offer", creates=True):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {"cron": "@daily", "at": START},
        {"cron": "@daily", "after": 3_600},
        {"cron": "@daily", "command_id": str(uuid.UUID(int=1))},
        {"cron": "@daily", "expected": 1},
        {"after": 3_600, "time_zone": "Europe/Berlin"},
    ],
)
async def test_timers_are_refused_as_a_client_refuses_them(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTimer):
        await Commands().schedule("stale", mark(1), "p1", **options)


async def test_commands_are_refused_as_a_client_refuses_them() -> None:
    commands = Commands()
    with pytest.raises(InvalidHeader, match="is missing: Sell needs the id of its sale"):
        await commands.send(Sell())
    with pytest.raises(InvalidId, match="aggregate id 'a b' is not allowed"):
        await commands.send(Sell(), "a b")
    with pytest.raises(InvalidId, match="message id 'x' is not a UUID"):
        await commands.execute(Sell(), "a", command_id="x")
    with pytest.raises(TypeError, match="expeced"):
        await commands.execute(Sell(), "a", expeced=1)
    assert commands.sent == []
    assert uuid.UUID((await commands.send(Offer())).aggregate_id).version == 5


def test_uuids_are_ids() -> None:
    seen: list[RecordedEvent] = []

    async def sell(_event: FlakeInputAdded, recorded: RecordedEvent, *, commands: Commands) -> None:
        seen.append(recorded)
        await commands.send(Sell(), uuid.UUID(recorded.aggregate_id), command_id=uuid.uuid4())

    seller = Subscriber("seller").subscribe([FlakeInputAdded], sell)
    outcome = scenario(seller).given(str(SELLER), ADDED).when(SELLER, ADDED)
    outcome.then((SELLER, Sell()))
    outcome.then((str(SELLER), Sell()))
    assert [(each.aggregate_id, each.version) for each in seen[1:]] == [(str(SELLER), 2)]
    with pytest.raises(InvalidId, match="aggregate id 'a b' is not allowed"):
        scenario(seller).when("a b", ADDED)


def test_a_command_that_is_returned_and_not_sent_is_an_error() -> None:
    async def sell(_event: FlakeInputAdded, _recorded: RecordedEvent) -> Any:
        return Sell()

    outcome = scenario(Subscriber("seller").subscribe([FlakeInputAdded], sell)).when("f1", ADDED)
    assert "sell returned Sell, which nobody sends" in str(outcome.then_fails(DeciderError))


class CallableHandler:
    async def __call__(self, event: FlakeInputAdded, recorded: RecordedEvent) -> None: ...


async def with_prefix(prefix: str, event: FlakeInputAdded, recorded: RecordedEvent) -> None: ...
async def with_option(event: FlakeInputAdded, recorded: RecordedEvent, *, to: str) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        CallableHandler(),
        CallableHandler().__call__,
        functools.partial(with_prefix, "x"),
        functools.partial(with_option, to="x"),
        functools.partial(CallableHandler()),
    ],
)
def test_partials_and_callable_objects_are_handlers(handler: Any) -> None:
    for declared in (
        Subscriber("s").subscribe([FlakeInputAdded], handler),
        annotated := Subscriber("s"),
    ):
        if declared is annotated:
            declared.handles(handler)
        scenario(declared).when("f1", ADDED).then_nothing()


def test_a_mock_may_be_a_handler() -> None:
    handler = AsyncMock()
    scenario(Subscriber("s").subscribe([FlakeInputAdded], handler)).when("f1", ADDED).then_nothing()
    handler.assert_awaited_once()


@pytest.mark.parametrize(
    ("handler", "problem"),
    [
        (None, "is not a function"),
        (3, "is not a function"),
        (CallableHandler, "must be async"),
        (functools.partial[Any](with_prefix, *"abcd"), "takes an event and its record"),
        (functools.partial(with_prefix, prefix="x"), "takes an event and its record"),
        (with_prefix, "takes an event and its record"),
    ],
)
@pytest.mark.parametrize("annotated", [True, False])
def test_what_cannot_be_called_is_refused_when_it_is_declared(
    handler: Any, problem: str, annotated: bool
) -> None:
    declared = Subscriber("s")
    with pytest.raises(DeciderError, match=f"subscriber s, handler .*{problem}"):
        declared.handles(handler) if annotated else declared.subscribe([FlakeInputAdded], handler)


def test_a_name_that_no_subject_can_contain_is_refused() -> None:
    with pytest.raises(InvalidSubject, match=r"subscriber 'a\.b' is not allowed"):
        Subscriber("a.b")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"start": "latest"}, "start is 'latest', which is neither"),
        ({"start": -1}, "start is -1"),
        ({"start": True}, "start is True"),
        ({"acknowledge": "never"}, "acknowledge is 'never'"),
        ({"max_concurrency": 0}, "max_concurrency is 0"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": "3"}, "max_attempts is '3'; at least 1 is needed, a whole number"),
        ({"max_concurrency": 1.5}, "max_concurrency is 1.5"),
        ({"ack_wait": 0}, "ack_wait is 0; it is from 0.001 to 86,400 seconds"),
        ({"ack_wait": float("nan")}, "ack_wait is nan"),
        ({"ack_wait": "30"}, "ack_wait is '30'"),
        ({"backoff": float("inf")}, "backoff is inf"),
        ({"backoff": -1}, "backoff is -1"),
        ({"continues": "s"}, "cannot continue itself"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(DeciderError, match=problem):
        Subscriber("s", **options)
