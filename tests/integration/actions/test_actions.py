"""The record of actions: written before and after, listed by actor and time, changed by nobody."""

from __future__ import annotations

import pytest

from eventstore.actions import ActionLog, ActionView, ListActions, action_answers, list_actions
from eventstore.actions.queries import UNREADABLE
from eventstore.application import running
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.client.responder import Responder
from eventstore.config import StreamSettings
from eventstore.errors import (
    InvalidPayload,
    JetStreamError,
    NoResponders,
    NoTimer,
    QueryRefused,
)
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.envelope import new_id
from eventstore.messages.subjects import Subjects


@pytest.fixture
async def subjects(client: Client, domain_name: str) -> Subjects:
    subjects = Subjects(domain_name)
    await declare(client, topology(subjects, StreamSettings()))
    return subjects


@pytest.fixture
def actions(client: Client, subjects: Subjects) -> ActionLog:
    return ActionLog(client, subjects)


async def found(client: Client, subjects: Subjects, **filters: object) -> list[ActionView]:
    return (await list_actions(client, subjects, ListActions(**filters))).items  # type: ignore[arg-type]


async def test_an_action_is_recorded_before_it_is_carried_out_and_how_it_ended(
    client: Client, subjects: Subjects, actions: ActionLog
) -> None:
    async with actions.recorded("timer-fire", "reminder", "ann"):
        (begun,) = await found(client, subjects)
        assert (begun.action, begun.target, begun.actor) == ("timer-fire", "reminder", "ann")
        assert (begun.status, begun.ended, begun.user) == ("unknown", None, None)
    (done,) = await found(client, subjects)
    assert (done.id, done.time, done.status, done.code) == (begun.id, begun.time, "done", None)
    assert done.ended is not None
    assert done.ended >= done.time


async def test_of_an_action_that_fails_the_code_is_recorded_and_no_text(
    client: Client, subjects: Subjects, actions: ActionLog
) -> None:
    with pytest.raises(NoTimer):
        async with actions.recorded("timer-cancel", "reminder", "ann"):
            raise NoTimer("no timer of Ann Smith")
    with pytest.raises(ZeroDivisionError):
        async with actions.recorded("timer-cancel", "other", "ann"):
            raise ZeroDivisionError
    other, first = await found(client, subjects)

    assert (first.status, first.code) == ("failed", "no_timer")
    assert (other.status, other.code) == ("failed", "error")


async def test_what_cannot_be_recorded_is_not_done(client: Client, domain_name: str) -> None:
    actions = ActionLog(client, Subjects(domain_name))
    done = False
    with pytest.raises(NoResponders, match="timer-fire was not begun, because it cannot be rec"):
        async with actions.recorded("timer-fire", "reminder", "ann"):
            done = True
    assert not done


async def test_actions_are_found_by_actor_target_and_time_in_pages(
    client: Client, subjects: Subjects, actions: ActionLog
) -> None:
    for number in range(300):
        actor = "bob" if number % 100 == 7 else "ann"
        async with actions.recorded("parked-retry", str(number), actor):
            pass
    bobs = await found(client, subjects, actor="bob")
    assert [each.target for each in bobs] == ["207", "107", "7"]
    assert {each.status for each in bobs} == {"done"}
    assert await found(client, subjects, actor="bob", target="107") == [bobs[1]]
    assert await found(client, subjects, actor="bob", since=bobs[1].time) == bobs[:2]
    assert await found(client, subjects, actor="bob", until=bobs[1].time) == bobs[2:]
    assert await found(client, subjects, action="parked-discard") == []

    targets: list[str] = []
    after = None
    while True:
        page = await list_actions(client, subjects, ListActions(limit=70, after=after))
        targets += [each.target for each in page.items]
        after = page.next
        if after is None:
            break
    assert targets == [str(number) for number in reversed(range(300))]


async def test_a_search_examines_a_bounded_number_and_goes_on(
    client: Client, subjects: Subjects, actions: ActionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for actor in ("bob", "ann", "ann"):
        async with actions.recorded("parked-retry", "1", actor):
            pass
    monkeypatch.setattr("eventstore.actions.queries._MAX_EXAMINED", 3)
    first = await list_actions(client, subjects, ListActions(actor="bob"))
    second = await list_actions(client, subjects, ListActions(actor="bob", after=first.next))

    assert (first.items, second.next) == ([], None)
    assert [each.actor for each in second.items] == ["bob"]


async def test_nobody_changes_what_is_recorded(
    client: Client, subjects: Subjects, actions: ActionLog
) -> None:
    async with actions.recorded("timer-fire", "reminder", "ann"):
        pass
    (before,) = await found(client, subjects)
    subject = subjects.action(before.id)
    for headers in ({}, {"Nats-Rollup": "sub"}, {"Nats-Rollup": "all"}, {"Nats-TTL": "1s"}):
        with pytest.raises(JetStreamError):
            await publish_acked(client, subject, b'{"type":"ended","code":"x"}', headers)
    for request, body in (("PURGE", {}), ("MSG.DELETE", {"seq": 1})):
        with pytest.raises(JetStreamError):
            await client.api(f"STREAM.{request}.{subjects.action_stream}", body)
    assert await found(client, subjects) == [before]


async def test_what_is_not_a_record_is_listed_as_unreadable(
    client: Client, subjects: Subjects
) -> None:
    await publish_acked(client, subjects.action(new_id(), "mallory"), b"{}")
    (forged,) = await found(client, subjects)
    assert (forged.action, forged.user, forged.status) == (UNREADABLE, "mallory", "unknown")


async def test_they_are_answered_by_request_and_reply(
    client: Client, subjects: Subjects, actions: ActionLog
) -> None:
    async with actions.recorded("timer-fire", "x" * 5_000, "a" * 5_000):
        pass
    responder = Responder(client, action_answers(client, subjects), queue="audit")
    queries = QueryClient(client, subjects)
    async with running(responder):
        await responder.ready.wait()
        (only,) = [each async for each in queries.all(ListActions())]
        with pytest.raises((InvalidPayload, QueryRefused), match="is not a cursor"):
            await queries.ask(ListActions(after="x"))
    assert len(only.target) < 1_100
    assert len(only.actor) < 300
