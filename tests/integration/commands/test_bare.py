"""Commands from a plain nats-py client that knows nothing of the library."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client as PlainClient

from eventstore.client.client import Client
from eventstore.errors import RequestTimeout
from eventstore.messages.envelope import derive_id, new_id
from tests.conftest import url_of
from tests.integration.commanding import Add, FailingStore, Line, counting, opened

SHAPE = {
    "status": str,
    "message": str,
    "code": str,
    "command_id": str,
    "aggregate": str,
    "aggregate_id": str,
    "version": int,
    "position": int,
    "event_ids": list,
}


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def plain(line: Line) -> AsyncIterator[PlainClient]:
    connection = await nats.connect(url_of(line.client))
    yield connection
    await connection.close()


async def execute(
    plain: PlainClient, line: Line, action: str, body: object = None, **headers: str
) -> dict[str, Any]:
    """What a person's script would do: publish, and wait on an inbox for the outcome."""
    inbox = plain.new_inbox()
    answers = await plain.subscribe(inbox)
    await plain.jetstream().publish(
        line.subjects.command("counter", action),
        b"" if body is None else json.dumps(body).encode(),
        headers={"X-Reply-To": inbox, **{k.replace("_", "-"): v for k, v in headers.items()}},
    )
    answer = await answers.next_msg(timeout=20)
    await answers.unsubscribe()
    outcome: dict[str, Any] = json.loads(answer.data)
    return outcome


async def test_the_outcome_is_json_of_a_fixed_shape(line: Line, plain: PlainClient) -> None:
    async with line.working():
        success = await execute(plain, line, "add", {"amount": 2}, X_Aggregate_ID="c1")
        rejected = await execute(plain, line, "take", {"amount": 9}, X_Aggregate_ID="c1")
        error = await execute(plain, line, "take", {"amount": "x"}, X_Aggregate_ID="c1")
    for outcome in (success, rejected, error):
        assert {name: type(value) for name, value in outcome.items()} == SHAPE
    statuses = [outcome["status"] for outcome in (success, rejected, error)]
    assert statuses == ["success", "rejected", "error"]
    assert error["code"] == "invalid_payload"


async def test_json_alone_is_enough_for_a_creating_command(line: Line, plain: PlainClient) -> None:
    await plain.jetstream().publish(line.subjects.command("counter", "add"), b'{"amount": 2}')
    async with line.working():
        await line.until_done()
    (event,) = [event async for event in line.store.read_all()]
    assert event.aggregate_id == derive_id(event.causation_id, "aggregate")
    assert event.correlation_id == event.causation_id
    outcome = await line.commands.outcome(event.causation_id)
    assert outcome is not None
    assert (outcome.status, outcome.event_ids) == ("success", (event.id,))


async def test_a_uuid_as_message_id_is_the_commands_id(line: Line, plain: PlainClient) -> None:
    own = new_id()
    async with line.working():
        outcome = await execute(plain, line, "add", {}, Nats_Msg_Id=own, X_Aggregate_ID="c1")
    assert outcome["command_id"] == own
    (event,) = await line.read("c1")
    assert event.causation_id == event.correlation_id == own


@pytest.mark.parametrize("text", ["order-17", "ünïcode and spaces", "a" * 2_000, "A" * 36])
async def test_any_text_can_be_the_message_id_and_leads_to_the_same_command_id(
    line: Line, plain: PlainClient, text: str
) -> None:
    headers = {"Nats-Msg-Id": text, "X-Aggregate-ID": "c1"}
    subject = line.subjects.command("counter", "add")
    async with line.working():
        outcome = await execute(plain, line, "add", {}, Nats_Msg_Id=text, X_Aggregate_ID="c1")
        again = await plain.jetstream().publish(subject, b"{}", headers=headers)
        assert again.duplicate
    assert uuid.UUID(outcome["command_id"]).version == 5
    assert await line.log_size() == 1


async def test_an_aggregate_id_alone_is_enough_for_the_others(
    line: Line, plain: PlainClient
) -> None:
    async with line.working():
        await execute(plain, line, "add", {"amount": 5}, X_Aggregate_ID="c1")
        outcome = await execute(plain, line, "take", {"amount": 2}, X_Aggregate_ID="c1")
    assert (outcome["status"], outcome["aggregate_id"], outcome["version"]) == ("success", "c1", 2)


async def test_no_payload_is_as_good_as_an_empty_object(line: Line, plain: PlainClient) -> None:
    async with line.working():
        outcome = await execute(plain, line, "add", None, X_Aggregate_ID="c1")
    assert outcome["status"] == "success"


async def test_a_command_for_an_existing_aggregate_must_name_it(
    line: Line, plain: PlainClient
) -> None:
    async with line.working():
        outcome = await execute(plain, line, "take", {"amount": 2})
    assert (outcome["status"], outcome["code"]) == ("error", "invalid_header")
    assert "X-Aggregate-ID" in outcome["message"]
    assert outcome["aggregate_id"] is None
    assert await line.log_size() == 0


@pytest.mark.parametrize("headers", [{}, {"Nats-Msg-Id": "order-17"}], ids=["none", "message id"])
async def test_a_bare_command_keeps_its_identity_when_it_is_redelivered(
    line: Line, plain: PlainClient, headers: dict[str, str]
) -> None:
    subject = line.subjects.command("counter", "add")
    await plain.jetstream().publish(subject, b"{}", headers=headers)
    failures = [RequestTimeout("the server is slow"), RequestTimeout("and still is")]
    async with (
        FailingStore(line.client, line.domain.codec, failures=failures) as store,
        line.working(store=store),
    ):
        await line.until_done()
        assert store.failures == []
    assert await line.log_size() == 1
    bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
    (command_id,) = await bucket.keys()
    (event,) = [event async for event in line.store.read_all()]
    assert event.causation_id == command_id


async def test_two_bare_commands_are_two_commands(line: Line, plain: PlainClient) -> None:
    async with line.working():
        first = await execute(plain, line, "add", {}, X_Aggregate_ID="c1")
        second = await execute(plain, line, "add", {}, X_Aggregate_ID="c1")
    assert first["command_id"] != second["command_id"]
    assert second["version"] == 2


async def test_a_correlation_can_be_given_by_either_of_its_ids(
    line: Line, plain: PlainClient
) -> None:
    correlation = new_id()
    async with line.working():
        await execute(plain, line, "add", {}, X_Aggregate_ID="c1", X_Correlation_ID=correlation)
        await execute(plain, line, "add", {}, X_Aggregate_ID="c1", X_Causation_ID=correlation)
    for event in await line.read("c1"):
        assert event.correlation_id == correlation


async def test_actor_and_trace_of_a_command_are_carried_into_its_events(
    line: Line, plain: PlainClient
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with line.working():
        await execute(plain, line, "add", {}, X_Aggregate_ID="c1", traceparent=trace, X_Actor="Åsa")
    (event,) = await line.read("c1")
    assert event.envelope.traceparent == trace
    assert event.envelope.actor == "Åsa"


async def test_a_command_for_a_new_aggregate_waits_its_turn_before_one_that_names_its_id(
    line: Line, plain: PlainClient
) -> None:
    own = new_id()
    subject = line.subjects.command("counter", "add")
    await plain.jetstream().publish(subject, b'{"amount": 5}', headers={"Nats-Msg-Id": own})
    derived = derive_id(own, "aggregate")
    took = line.subjects.command("counter", "take")
    for _ in range(5):
        await plain.jetstream().publish(took, b'{"amount": 1}', headers={"X-Aggregate-ID": derived})
    async with line.working():
        await line.until_done()
    assert [event.data.amount for event in await line.read(derived)] == [5, -1, -1, -1, -1, -1]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "forged",
    [
        "{domain}.log.counter.c1",
        "{domain}.cmd.counter.add",
        "{domain}.event.counter.added",
        "$KV.x.y",
        "_INBOX.>",
        "_INBOX.*",
        "_INBOX",
        "_INBOX.a b",
        "_INBOX..a",
        "_INBOX.{long}",
        "_INBOX.a.b.c.d.e",
        "",
    ],
)
async def test_an_outcome_is_sent_to_inboxes_only(
    line: Line, plain: PlainClient, forged: str
) -> None:
    address = forged.format(domain=line.domain.name, long="a" * 10_000)
    seen: list[str] = []

    async def see(message: Any) -> None:
        if b'"command_id"' in message.data and not message.subject.startswith("$KV."):
            seen.append(message.subject)

    await plain.subscribe(f"{line.domain.name}.>", cb=see)
    await plain.subscribe("_INBOX.>", cb=see)
    await plain.flush()
    async with line.working():
        await plain.jetstream().publish(
            line.subjects.command("counter", "add"),
            b"{}",
            headers={"X-Aggregate-ID": "c1", "X-Reply-To": address},
        )
        await line.until_done()
    await plain.flush()
    assert seen == []
    await line.until_done()
    assert await line.log_size() == 1
    assert await line.parked() == []


async def test_a_command_answers_to_an_inbox_that_is_gone_without_harm(
    line: Line, plain: PlainClient
) -> None:
    headers = {"X-Reply-To": plain.new_inbox(), "X-Aggregate-ID": "c1"}
    async with line.working():
        await plain.jetstream().publish(
            line.subjects.command("counter", "add"), b"{}", headers=headers
        )
        outcome = await line.commands.execute(Add(), "c1")
    assert outcome.version == 2


async def test_commands_of_the_plain_client_and_ours_go_together(
    line: Line, plain: PlainClient
) -> None:
    async with line.working():
        outcomes = await asyncio.gather(
            *(execute(plain, line, "add", {}, X_Aggregate_ID="c1") for _ in range(10)),
            *(line.commands.execute(Add(), "c1") for _ in range(10)),
        )
    assert len(outcomes) == 20
    assert [event.version for event in await line.read("c1")] == list(range(1, 21))
