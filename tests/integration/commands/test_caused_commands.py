"""Commands that a handler sends: their identity is derived from the handled message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore.client.client import Client
from eventstore.commands import Outcome, SentCommand
from eventstore.config import StreamSettings
from eventstore.messages.context import MessageContext
from eventstore.messages.envelope import Envelope, Identity, new_id
from eventstore.store.publisher import EventPublisher
from tests.integration.commanding import FORGETFUL, Add, Added, Line, Take, counting, opened

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
def cause() -> Identity:
    """A message in the middle of a correlation."""
    return Identity.caused_by(Identity.caused_by(Identity.root()))


async def sent_envelope(line: Line, sent: SentCommand) -> Envelope:
    message = await line.jetstream.get_msg(line.subjects.command_stream, sent.sequence)
    return Envelope.from_headers(message.headers or {})


async def test_a_command_is_caused_by_what_is_handled(line: Line, cause: Identity) -> None:
    with MessageContext(cause, "shop", actor="ann", traceparent=TRACE).begun():
        sent = await line.commands.send(Add(), "c1")
    envelope = await sent_envelope(line, sent)
    assert envelope.identity == Identity(sent.command_id, cause.correlation_id, cause.id)
    assert (envelope.actor, envelope.traceparent) == ("ann", TRACE)

    async with line.working():
        await line.until_done()
    (event,) = await line.read("c1")
    assert (event.causation_id, event.correlation_id) == (sent.command_id, cause.correlation_id)
    assert (event.envelope.actor, event.envelope.traceparent) == ("ann", TRACE)


async def test_what_is_redelivered_sends_the_same_commands_which_are_carried_out_once(
    line: Line, cause: Identity
) -> None:
    async def handled() -> list[str]:
        with MessageContext(cause, "shop").begun():
            sent = await line.commands.send(Add(amount=2), "c1")
            outcome = await line.commands.execute(Add(amount=3), "c1")
            created = await line.commands.execute(Add(amount=5))
        assert created.aggregate_id is not None
        return [sent.command_id, outcome.command_id, created.command_id, created.aggregate_id]

    async with line.working():
        first = await handled()
        assert await handled() == first
        await line.until_done()
    assert len(set(first)) == 4
    assert [event.causation_id for event in await line.read("c1")] == first[:2]
    assert await line.log_size() == 3


@pytest.mark.parametrize(
    ("streams", "has_outcome"),
    [(StreamSettings(), True), (FORGETFUL, True), (FORGETFUL, False)],
    ids=["within the window", "after it", "by its events"],
)
async def test_what_is_redelivered_with_other_data_is_answered_as_it_was_first(
    client: Client, domain_name: str, cause: Identity, streams: StreamSettings, has_outcome: bool
) -> None:
    async with opened(client, counting(domain_name), streams) as line, line.working():

        async def handled(amount: int, own: str | None = None) -> Outcome:
            with MessageContext(cause, "shop").begun():
                return await line.commands.execute(Add(amount=amount), "c1", command_id=own)

        first = await handled(1)
        if streams is FORGETFUL:
            await asyncio.sleep(0.2)  # the window itself
        if not has_outcome:
            bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
            await bucket.delete(first.command_id)
        assert await handled(2) == first
        named = new_id()
        codes = [(await handled(amount, named)).code for amount in (3, 4)]
    assert codes == ["ok", "command_id_reused"]


async def test_each_command_of_a_handling_is_another(line: Line, cause: Identity) -> None:
    async def send(by: str, *commands: tuple[Any, str]) -> list[str]:
        with MessageContext(cause, by).begun():
            return [(await line.commands.send(*each)).command_id for each in commands]

    sent = await send("shop", (Add(), "c1"), (Add(), "c1"), (Add(), "c2"), (Take(amount=1), "c1"))
    assert len(set(sent)) == 4
    assert set(await send("stock", (Add(), "c1"))).isdisjoint(sent)
    # What else is sent does not matter.
    assert await send("shop", (Take(amount=1), "c1"), (Add(), "c2"), (Add(), "c1")) == [
        *(sent[3], sent[2], sent[0])
    ]


async def test_explicit_arguments_take_precedence(line: Line, cause: Identity) -> None:
    own, other = new_id(), Identity.root()
    with MessageContext(cause, "shop", actor="ann", traceparent=TRACE).begun():
        named = await line.commands.send(Add(), "c1", command_id=own, actor="bob")
        caused = await line.commands.send(Add(), "c1", cause=other)
    first = await sent_envelope(line, named)
    assert first.identity == Identity(own, cause.correlation_id, cause.id)
    assert (first.actor, first.traceparent) == ("bob", TRACE)
    second = await sent_envelope(line, caused)
    assert (second.identity.correlation_id, second.identity.causation_id) == (other.id, other.id)
    assert (second.actor, second.traceparent) == (None, None)


async def test_outside_of_a_handling_a_command_begins_a_correlation(line: Line) -> None:
    sent = await line.commands.send(Add(), "c1")
    assert (await sent_envelope(line, sent)).identity == Identity.root(sent.command_id)


async def test_a_command_and_a_fact_of_one_handling_are_two(line: Line, cause: Identity) -> None:
    with MessageContext(cause, "shop").begun():
        fact = await EventPublisher(line.store).publish(Added(amount=1), "c1")
        sent = await line.commands.send(Add(), "c1")
    assert sent.command_id not in fact.event_ids
