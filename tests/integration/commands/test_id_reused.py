"""A command id that is used again for another command: refused, and never carried out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client as PlainClient

from eventstore.application import running
from eventstore.client.client import Client
from eventstore.client.protocol import header_lines
from eventstore.client.responder import Responder
from eventstore.commands import CommandClient, Outcome, Outcomes
from eventstore.commands.consumer import worker_consumer
from eventstore.commands.status import status_answers
from eventstore.errors import CommandTimeout, InvalidPayload, StreamMissing
from eventstore.jetstream.topology import declare_consumer
from eventstore.messages.envelope import Identity, new_id
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import COMMAND_DIGEST
from eventstore.messages.types import Command
from eventstore.store.publisher import EventPublisher
from tests.conftest import url_of
from tests.integration.commanding import (
    Add,
    AddEach,
    Added,
    Line,
    RaiseTo,
    Refuse,
    Take,
    counting,
    opened,
)
from tests.integration.commands.test_bare import execute

OTHERS: dict[str, tuple[Command, str]] = {
    "other data": (Add(amount=250), "c1"),
    "another aggregate": (Add(amount=100), "c2"),
    "another type": (Take(amount=100), "c1"),
    "what changes nothing": (RaiseTo(total=100), "c1"),
}
others = pytest.mark.parametrize(("command", "target"), OTHERS.values(), ids=OTHERS)


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def plain(line: Line) -> AsyncIterator[PlainClient]:
    connection = await nats.connect(url_of(line.client))
    yield connection
    await connection.close()


async def publish(line: Line, command: Command, target: str, own: str, **headers: str) -> None:
    """Send a command by hand, so that the server does not see that its id comes again."""
    cls = type(command)
    await line.jetstream.publish(
        line.subjects.command(cls.__aggregate__, cls.__action__),
        line.domain.codec.encode(command),
        headers={"X-Event-ID": own, "X-Aggregate-ID": target, **headers},
    )


async def answered(line: Line, command: Command, target: str, own: str) -> dict[str, Any]:
    """The outcome that is sent to the sender of the command."""
    inbox = line.client.nats.new_inbox()
    answers = await line.client.nats.subscribe(inbox)
    await publish(line, command, target, own, **{"X-Reply-To": inbox})
    answer = await answers.next_msg(timeout=20)
    outcome: dict[str, Any] = json.loads(answer.data)
    return outcome


async def amounts(line: Line) -> list[int]:
    return [event.data.amount async for event in line.store.read_all()]  # type: ignore[attr-defined]


@others
async def test_inside_the_duplicate_window(line: Line, command: Command, target: str) -> None:
    own = new_id()
    async with line.working():
        first = await line.commands.execute(Add(amount=100), "c1", command_id=own)
        other = await line.commands.execute(command, target, command_id=own)
        again = await line.commands.execute(Add(amount=100), "c1", command_id=own)
    assert (other.status, other.code, other.aggregate_id) == ("error", "command_id_reused", target)
    assert again == first
    assert await amounts(line) == [100]


@others
async def test_when_the_queue_does_not_know_the_id_any_more(
    line: Line, command: Command, target: str
) -> None:
    own = new_id()
    async with line.working():
        first = await line.commands.execute(Add(amount=100), "c1", command_id=own)
        other = await answered(line, command, target, own)
        again = await answered(line, Add(amount=100), "c1", own)
    assert (other["status"], other["code"]) == ("error", "command_id_reused")
    assert own in other["message"]
    assert (again["status"], again["event_ids"]) == ("success", list(first.event_ids))
    assert await line.commands.outcome(own) == first
    assert await amounts(line) == [100]
    assert [record["code"] for record in await line.parked()] == ["command_id_reused"]


@pytest.mark.parametrize("kept", [True, False], ids=["kept state", "loaded"])
async def test_when_its_outcome_has_expired(line: Line, kept: bool) -> None:
    own = new_id()
    async with line.working():
        await line.commands.execute(Add(amount=100), "c1", command_id=own)
        if kept:
            await forget_outcome(line, own)
            other = await answered(line, Add(amount=250), "c1", own)
    if not kept:
        await forget_outcome(line, own)
        async with line.working():
            other = await answered(line, Add(amount=250), "c1", own)
            again = await answered(line, Add(amount=100), "c1", own)
        assert again["status"] == "success"
    assert other["code"] == "command_id_reused"
    assert await amounts(line) == [100]


async def forget_outcome(line: Line, own: str) -> None:
    bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
    await bucket.delete(own)


async def test_the_digest_is_on_every_event(line: Line) -> None:
    async with line.working():
        await line.commands.execute(AddEach(amounts=[1, 2]), "c1")
        await line.commands.execute(AddEach(amounts=[1, 2]), "c1")
    digests = [event.envelope.command_digest for event in await line.read("c1")]
    assert None not in digests
    assert digests[0] == digests[1]
    assert digests[1] != digests[2] == digests[3]


@pytest.mark.parametrize("kept", [True, False], ids=["kept state", "loaded"])
@pytest.mark.parametrize("caused", [True, False], ids=["caused", "root"])
async def test_the_id_of_a_fact_or_of_its_cause_is_no_commands(
    line: Line, caused: bool, kept: bool
) -> None:
    own = new_id()
    async with line.working():
        if kept:
            await line.commands.execute(Add(amount=1), "c1")
        if caused:
            await line.store.append("counter", "c1", Added(amount=100), cause=Identity.root(own))
        else:
            await EventPublisher(line.store).publish(Added(amount=100), "c1", event_id=own)
        outcome = await line.commands.execute(Add(amount=250), "c1", command_id=own)
        again = await line.commands.execute(Add(amount=250), "c1", command_id=own)
    assert (outcome.status, outcome.code) == ("error", "command_id_reused")
    assert again == outcome == await line.commands.outcome(own)
    assert await amounts(line) == [*([1] if kept else []), 100]


async def test_a_fact_that_a_command_caused_is_not_in_the_commands_outcome(line: Line) -> None:
    own = new_id()
    async with line.working():
        first = await line.commands.execute(Add(amount=100), "c1", command_id=own)
        fact = NewEvent(data=Added(amount=1), identity=Identity.caused_by(Identity.root(own)))
        await line.store.append("counter", "c1", fact)
        await forget_outcome(line, own)
        again = await answered(line, Add(amount=100), "c1", own)
    assert again["event_ids"] == list(first.event_ids)


async def test_an_outcome_from_before_there_were_digests_is_taken_for_the_commands(
    line: Line,
) -> None:
    own = new_id()
    async with line.working():
        first = await line.commands.execute(Add(amount=100), "c1", command_id=own)
    await forget_outcome(line, own)
    bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
    await bucket.put(own, first.to_json())
    async with line.working():
        other = await answered(line, Add(amount=250), "c1", own)
    assert other["status"] == "success"


async def test_of_two_that_wait_together_one_is_carried_out(line: Line) -> None:
    own = new_id()
    await declare_consumer(line.client, worker_consumer(line.domain.codec))
    for number in range(10):
        await publish(line, Add(amount=number), f"c{number}", own)
    async with line.working():
        await line.until_done()
    assert len(await amounts(line)) == 1
    assert len(await line.parked()) == 9


async def test_one_that_cannot_be_read_is_not_answered_with_the_success_of_another(
    line: Line, plain: PlainClient
) -> None:
    own = new_id()
    async with line.working():
        first = await line.commands.execute(Add(amount=100), "c1", command_id=own)
        other = await execute(
            plain, line, "add", {"amount": "x"}, X_Event_ID=own, X_Aggregate_ID="c1"
        )
    assert (other["status"], other["code"]) == ("error", "invalid_payload")
    assert await line.commands.outcome(own) == first


async def test_one_that_other_code_cannot_read_any_more_has_the_outcome_it_had(line: Line) -> None:
    own = new_id()
    done = Outcome(status="success", message="", code="ok", command_id=own)
    about = header_lines({COMMAND_DIGEST: "0" * 16})
    unreadable = Outcome.error(InvalidPayload("no more"), own)
    await line.outcomes.put(done, sequence=7, about=about)
    assert await line.outcomes.put(unreadable, sequence=7) == done
    assert await line.outcomes.put(unreadable, sequence=8) == unreadable
    assert await line.outcomes.get(own) == done


async def test_what_was_never_carried_out_can_be_corrected(line: Line, plain: PlainClient) -> None:
    own = new_id()
    async with line.working():
        wrong = await execute(
            plain, line, "add", {"amount": "x"}, X_Event_ID=own, X_Aggregate_ID="c1"
        )
        right = await answered(line, Add(amount=5), "c1", own)
        wrong_again = await answered(line, Add(amount=6), "c1", own)
    assert (wrong["status"], right["status"]) == ("error", "success")
    assert wrong_again["code"] == "command_id_reused"
    assert await amounts(line) == [5]


async def test_a_rejection_is_that_commands_alone(line: Line) -> None:
    own = new_id()
    async with line.working():
        rejected = await answered(line, Take(amount=1), "c1", own)
        other = await answered(line, Add(amount=1), "c1", own)
        again = await answered(line, Take(amount=1), "c1", own)
    assert rejected["status"] == "rejected"
    assert other["code"] == "command_id_reused"
    assert again == rejected


@pytest.mark.parametrize("text", ["order-17", "7d444840-9dc0-11d1-b245-5ffdce74fad2"])
async def test_a_plain_client_that_uses_a_message_id_again(
    plain: PlainClient, line: Line, text: str
) -> None:
    async with line.working():
        first = await execute(
            plain, line, "add", {"amount": 1}, Nats_Msg_Id=text, X_Aggregate_ID="c1"
        )
        # As after the duplicate window: the server knows the id no more.
        headers = {"X_Event_ID": first["command_id"]}
        same = await execute(plain, line, "add", {"amount": 1}, X_Aggregate_ID="c1", **headers)
        other = await execute(plain, line, "add", {"amount": 2}, X_Aggregate_ID="c1", **headers)
        bare = await execute(plain, line, "add", {}, X_Aggregate_ID="c1", **headers)
    assert (same["status"], other["code"]) == ("success", "command_id_reused")
    assert (bare["status"], bare["event_ids"]) == ("success", first["event_ids"])  # amount is 1


async def test_only_a_worker_sets_the_digest(line: Line) -> None:
    own = new_id()
    async with line.working():
        await publish(line, Add(amount=1), "c1", own, **{COMMAND_DIGEST: "0" * 16})
        await publish(line, Add(amount=1), "c1", new_id(), **{COMMAND_DIGEST: "nonsense"})
        await line.until_done()
        other = await answered(line, Add(amount=2), "c1", own)
    assert other["code"] == "command_id_reused"
    assert await amounts(line) == [1, 1]


async def test_a_sender_that_waits_learns_it_while_the_first_is_in_flight(line: Line) -> None:
    own = new_id()
    first, other = (
        asyncio.create_task(line.commands.execute(Add(amount=n), "c1", command_id=own))
        for n in (1, 2)
    )
    async with line.working():
        outcomes = await asyncio.gather(first, other)
    assert sorted(outcome.code for outcome in outcomes) == ["command_id_reused", "ok"]
    assert len(await amounts(line)) == 1


@pytest.mark.parametrize("digest", ["0" * 16 + "-" + "0" * 32, None], ids=["read", "not read"])
async def test_a_sender_does_not_get_the_error_of_another_command(
    line: Line, digest: str | None
) -> None:
    own = new_id()
    error = Outcome.error(InvalidPayload("another's"), own)
    about = "" if digest is None else header_lines({COMMAND_DIGEST: digest})
    await line.outcomes.put(error, sequence=99, about=about)
    executed = asyncio.create_task(line.commands.execute(Add(), "c1", command_id=own))
    await asyncio.wait([executed], timeout=1.5)  # it looks at what is kept after one second
    assert not executed.done()
    assert await line.outcomes.get(own) == error
    async with line.working():
        assert (await executed).status == "success"


async def test_a_command_whose_events_are_recorded_has_its_outcome_whatever_outcome_is_stored(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    own = new_id()
    async with line.working():
        first = await answered(line, Add(amount=1), "c1", own)
        await forget_outcome(line, own)
        other = await answered(line, Add(amount=2), "c2", own)
        again = await answered(line, Add(amount=1), "c1", own)
        third = await answered(line, Add(amount=3), "c1", own)
    assert (other["status"], other["aggregate_id"]) == ("success", "c2")
    assert (again["status"], again["event_ids"]) == ("success", first["event_ids"])
    assert third["code"] == "command_id_reused"
    assert await amounts(line) == [1, 2]
    assert not [each for each in caplog.records if "contradictory outcomes" in each.message]


async def test_a_rejection_whose_code_is_the_same_is_stored(line: Line) -> None:
    own = new_id()
    async with line.working():
        await answered(line, Refuse(length=1, code="command_id_reused"), "c1", own)
    kept = await line.commands.outcome(own)
    assert kept is not None
    assert (kept.status, kept.code) == ("rejected", "command_id_reused")


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "kept no more"])
async def test_a_refused_command_is_known_by_its_place(
    line: Line, plain: PlainClient, kept: bool
) -> None:
    own = new_id()
    responder = Responder(
        line.client, status_answers(line.client, line.subjects), queue=line.domain.name
    )
    async with running(responder), line.working():
        await responder.ready.wait()
        await answered(line, Add(amount=1), "c1", own)
        if not kept:
            await forget_outcome(line, own)
        subject = line.subjects.command("counter", "add")
        headers = {"Nats-Msg-Id": own, "X-Aggregate-ID": "c1"}
        ack = await plain.jetstream().publish(subject, b'{"amount":2}', headers=headers)
        await line.until_done()
        question = json.dumps({"stream": ack.stream, "seq": ack.seq}).encode()
        status_subject = line.subjects.query("command", "get_status")
        outcome_of_id = json.loads((await plain.request(status_subject, question, timeout=10)).data)
    assert (outcome_of_id["status"], outcome_of_id["code"]) == ("error", "command_id_reused")
    assert (outcome_of_id["command_id"], outcome_of_id["aggregate_id"]) == (own, "c1")


async def test_without_the_bucket_a_command_at_a_sequence_is_a_missing_stream(line: Line) -> None:
    await line.jetstream.delete_stream(f"KV_{line.subjects.outcome_bucket}")
    with pytest.raises(StreamMissing, match=line.subjects.outcome_bucket):
        await Outcomes(line.client, line.subjects).command_at(1)


async def test_who_has_sent_it_learns_later_that_it_was_refused(line: Line) -> None:
    own = new_id()
    async with line.working():
        first = await answered(line, Add(amount=1), "c1", own)
        sent = await line.commands.send(Add(amount=2), "c2", command_id=own)
        assert not sent.duplicate
        await line.until_done()
    refused = await line.commands.outcome(own)
    assert refused is not None
    assert (refused.status, refused.code) == ("error", "command_id_reused")
    async with CommandClient(line.client, line.domain.codec) as another:
        outcome = await another.outcome(own)
    assert outcome is not None
    assert (outcome.status, list(outcome.event_ids)) == ("success", first["event_ids"])


async def test_an_id_is_not_asked_for_a_command_whose_outcome_was_returned(line: Line) -> None:
    own = new_id()
    async with line.working():
        first = await line.commands.execute(Add(amount=1), "c1", command_id=own)
        other = await line.commands.execute(Add(amount=2), "c2", command_id=own)
    assert other.code == "command_id_reused"
    assert await line.commands.outcome(own) == first


async def test_who_has_waited_in_vain_learns_later_that_it_was_refused(line: Line) -> None:
    own = new_id()
    await publish(line, Add(amount=1), "c1", own)
    with pytest.raises(CommandTimeout):
        await line.commands.execute(Add(amount=2), "c1", command_id=own, timeout=0.1)
    async with line.working():
        await line.until_done()
    refused = await line.commands.outcome(own)
    assert refused is not None
    assert (refused.status, refused.code) == ("error", "command_id_reused")
