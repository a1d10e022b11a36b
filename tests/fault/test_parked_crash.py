"""Crashes while a command is parked or retried: it is never lost, and carried out once."""

from __future__ import annotations

import pytest

from eventstore.client.client import Client, connect
from eventstore.errors import AppendUnknown, ClientError
from eventstore.messages.envelope import new_id
from eventstore.parking.messages import ParkedMessage, ParkedMessages
from tests.conftest import settings_for
from tests.integration.commanding import Add, FailingStore, Line, counting, opened
from tests.proxy import Direction, TcpProxy


async def park_one(line: Line) -> None:
    async with (
        FailingStore(line.client, line.domain.codec, failures=[AppendUnknown("away")]) as store,
        line.working(store=store, max_deliveries=1),
    ):
        await line.commands.execute(Add(amount=5), "c1")


@pytest.mark.parametrize(
    ("pattern", "direction", "was_put_back"),
    [
        ("X-Retry-Of", "to_server", False),
        ('{{"stream":"{stream}"', "to_client", True),
        ("STREAM.MSG.DELETE", "to_server", True),
    ],
    ids=["before it is put back", "before that is known", "before it is deleted"],
)
async def test_an_interrupted_retry_leaves_it_parked_and_can_be_repeated(
    client: Client, domain_name: str, pattern: str, direction: Direction, was_put_back: bool
) -> None:
    async with opened(client, counting(domain_name)) as line:
        await park_one(line)
        async with TcpProxy(client) as proxy, connect(settings_for(proxy.url)) as far:
            text = pattern.format(stream=line.subjects.command_stream)
            proxy.cut_after(text.encode(), direction, forward=False)
            with pytest.raises(ClientError):
                await ParkedMessages(far, line.subjects).retry(1)
            parked = ParkedMessages(client, line.subjects)
            assert (await parked.get(1)).sequence == 1
            assert await line.queued() == int(was_put_back)
        await parked.retry(1)
        async with line.working():
            await line.until_done()

        assert [message async for message in parked.read()] == []
        (event,) = await line.read("c1")
        outcome = await line.commands.outcome(event.causation_id)
        assert outcome is not None
        assert outcome.status == "success"


@pytest.mark.parametrize(
    ("pattern", "direction"),
    [
        ("PUB {domain}.parked.cmd", "to_server"),
        ('{{"stream":"{parked}"', "to_client"),
        ("PUB $KV.{outcomes}.", "to_server"),
        ('{{"stream":"KV_{outcomes}"', "to_client"),
        ("+ACK", "to_server"),
    ],
    ids=["before parked", "before that is known", "before answered", "as answered", "before acked"],
)
async def test_a_worker_disconnected_while_it_parks_parks_once_and_answers(
    client: Client, domain_name: str, pattern: str, direction: Direction
) -> None:
    async with opened(client, counting(domain_name)) as line:
        async with (
            TcpProxy(client) as proxy,
            connect(settings_for(proxy.url)) as far_client,
            opened(far_client, line.domain) as far,
            far.working(ack_wait=0.5),
        ):
            text = pattern.format(
                domain=domain_name,
                parked=line.subjects.parked_stream,
                outcomes=line.subjects.outcome_bucket,
            )
            cut = proxy.cut_after(text.encode(), direction, forward=False)
            own = new_id()
            await client.request(
                line.subjects.command("counter", "add"), b"{", headers={"X-Event-ID": own}
            )
            await line.until_done()
            assert cut.is_set()

        (parked,) = [message async for message in ParkedMessages(client, line.subjects).read()]
        assert isinstance(parked, ParkedMessage)
        assert (parked.record.command_id, parked.record.payload) == (own, b"{")
        outcome = await line.commands.outcome(own)
        assert outcome is not None
        assert (outcome.status, outcome.code) == ("error", "invalid_payload")
