"""Requests and their answers: shared among instances, also when something goes wrong."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore.application import running
from eventstore.client.client import Client, Msg, connect
from eventstore.client.responder import Reply, Request, Responder
from eventstore.commands import Outcome
from eventstore.commands.status import status_answers
from eventstore.config import Settings
from eventstore.errors import ConnectionLost, NoResponders, UnknownType
from eventstore.messages.envelope import new_id
from tests.integration.commanding import Add, Line, Take, counting, opened

BOUND = 10.0


def headers_of(answer: Msg) -> dict[str, str]:
    return answer.headers or {}


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def echo(request: Request) -> Reply:
    return Reply(b"<" + request.payload + b">")


async def test_a_request_is_answered_until_it_is_stopped(client: Client, domain_name: str) -> None:
    responder = Responder(client, {f"{domain_name}.query.a.b": echo}, queue=domain_name)
    async with running(responder):
        await responder.ready.wait()
        answer = await client.request(f"{domain_name}.query.a.b", b"x")
    assert answer.data == b"<x>"
    assert responder.subjects == (f"{domain_name}.query.a.b",)
    with pytest.raises(NoResponders):
        await client.request(f"{domain_name}.query.a.b", b"x")


async def test_a_failed_subscription_is_raised_without_a_group(settings: Settings) -> None:
    async with connect(settings) as client:
        responder = Responder(client, {"a.b": echo}, queue="q")
    with pytest.raises(ConnectionLost):
        await responder.run()


async def test_each_request_goes_to_one_instance(client: Client, domain_name: str) -> None:
    counts = [0, 0]

    def counter(number: int) -> Responder:
        async def count(request: Request) -> Reply:
            counts[number] += 1
            return Reply(b"")

        return Responder(client, {f"{domain_name}.query.a.b": count}, queue=domain_name)

    instances = [counter(0), counter(1)]
    async with running(*instances):
        await asyncio.gather(*(instance.ready.wait() for instance in instances))
        for _ in range(20):
            await client.request(f"{domain_name}.query.a.b")
    assert sum(counts) == 20


async def test_concurrency_is_bounded_and_all_are_answered(
    client: Client, domain_name: str
) -> None:
    under_way, peak = 0, 0
    gate, full = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Reply:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        if under_way == 3:
            full.set()
        await gate.wait()
        under_way -= 1
        return Reply(request.payload)

    subject = f"{domain_name}.query.a.b"
    responder = Responder(client, {subject: slow}, queue=domain_name, max_concurrency=3)
    async with running(responder):
        await responder.ready.wait()
        requests = [asyncio.create_task(client.request(subject, b"x")) for _ in range(10)]
        await asyncio.wait_for(full.wait(), 20)
        gate.set()
        assert [answer.data for answer in await asyncio.gather(*requests)] == [b"x"] * 10
    assert peak == 3


async def test_an_error_is_answered_and_so_is_the_next_request(
    client: Client, domain_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> Reply:
        if request.payload == b"mistake":
            raise RuntimeError("a secret")
        raise UnknownType("no such\r\nthing")

    subject = f"{domain_name}.query.a.b"
    responder = Responder(client, {subject: fail}, queue=domain_name)
    async with running(responder):
        await responder.ready.wait()
        await client.publish(subject, b"nobody waits for this one")
        unknown = await client.request(subject)
        mistake = await client.request(subject, b"mistake")

    assert json.loads(unknown.data) == {
        "status": "error",
        "code": "unknown_type",
        "message": "no such thing",
    }
    assert headers_of(unknown)["Nats-Service-Error"] == "no such thing"
    assert headers_of(unknown)["Nats-Service-Error-Code"] == "unknown_type"
    assert json.loads(mistake.data)["code"] == "internal"
    assert "secret" not in mistake.data.decode()
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


async def test_an_answer_gets_the_request_and_may_set_headers(
    client: Client, domain_name: str
) -> None:
    async def reflect(request: Request) -> Reply:
        return Reply(request.subject.encode(), {"X-Mine": request.headers.get("X-Yours", "none")})

    subject = f"{domain_name}.query.a.b"
    responder = Responder(client, {subject: reflect}, queue=domain_name)
    async with running(responder):
        await responder.ready.wait()
        bare = await client.request(subject)
        answer = await client.request(subject, headers={"X-Yours": "given"})
    assert bare.data == subject.encode()
    assert bare.headers == {"Content-Type": "application/json", "X-Mine": "none"}
    assert headers_of(answer)["X-Mine"] == "given"


async def test_an_unsendable_reply_is_answered_with_an_error(
    client: Client, domain_name: str
) -> None:
    wrong = {
        b"large": Reply(b"x" * client.max_payload),
        b"header": Reply(b"", {"X-Mine": "two\r\nlines"}),
        b"fine": Reply(b"{}"),
    }

    async def answer(request: Request) -> Reply:
        if request.payload == b"error":
            raise UnknownType("x" * client.max_payload)
        return wrong[request.payload]

    subject = f"{domain_name}.query.a.b"
    responder = Responder(client, {subject: answer}, queue=domain_name)
    async with running(responder):
        await responder.ready.wait()
        codes = [
            json.loads((await client.request(subject, question)).data).get("code")
            for question in (b"large", b"header", b"error", b"fine")
        ]
        large = json.loads((await client.request(subject, b"large")).data)
    assert codes == ["answer_too_large", "invalid_header", "unknown_type", None]
    assert "with a smaller limit" in large["message"]


async def test_the_status_of_a_command_can_be_requested(line: Line) -> None:
    subject = line.subjects.query("command", "get_status")
    responder = Responder(
        line.client, status_answers(line.client, line.subjects), queue=line.domain.name
    )
    async with line.working(), running(responder):
        await responder.ready.wait()
        outcomes = [
            await line.commands.execute(Add(amount=2), "c1"),
            await line.commands.execute(Take(amount=9), "c1"),
        ]
        for outcome in outcomes:
            question = json.dumps({"command_id": outcome.command_id}).encode()
            answer = await line.client.request(subject, question)
            assert Outcome.from_json(answer.data) == outcome
            assert headers_of(answer)["Content-Type"] == "application/json"
        unknown = new_id()
        answer = await line.client.request(subject, json.dumps({"command_id": unknown}).encode())
        assert json.loads(answer.data)["status"] == "unknown"
        assert json.loads(answer.data)["command_id"] == unknown


async def test_a_plain_client_requests_the_status_by_the_ack(line: Line) -> None:
    """As from `nats request nix.cmd.counter.add '{}'`: no library, no id, no inbox."""
    plain = line.client.nats
    responder = Responder(
        line.client, status_answers(line.client, line.subjects), queue=line.domain.name
    )

    async def status(**question: Any) -> dict[str, Any]:
        subject = line.subjects.query("command", "get_status")
        answer = await plain.request(subject, json.dumps(question).encode(), timeout=10)
        found: dict[str, Any] = json.loads(answer.data)
        return found

    add, take = (line.subjects.command("counter", action) for action in ("add", "take"))
    acks = [
        json.loads((await plain.request(subject, payload, headers=headers, timeout=10)).data)
        for subject, payload, headers in (
            (add, b"{}", None),
            (add, b'{"amount": 2}', {"X-Aggregate-ID": "c1", "Nats-Msg-Id": "order-17"}),
            (take, b'{"amount": 9}', {"X-Aggregate-ID": "c1"}),
            (take, b"nonsense", {"X-Aggregate-ID": "c1"}),
        )
    ]
    async with running(responder):
        await responder.ready.wait()
        waiting = await status(stream=acks[0]["stream"], seq=acks[0]["seq"])
        async with line.working():
            await line.until_done()
        outcomes = [await status(stream=ack["stream"], seq=ack["seq"]) for ack in acks]
        by_message = await status(message_id="order-17")
        by_sequence = await status(sequence=acks[1]["seq"])
        refused = [
            await status(stream="OTHER", seq=1),
            await status(seq=1, message_id="order-17"),
            await status(stream=acks[0]["stream"]),
        ]
    assert (waiting["status"], waiting["command_id"]) == ("unknown", None)
    assert [each["code"] for each in outcomes] == ["ok", "ok", "too_little", "invalid_payload"]
    assert outcomes[1] == by_message == by_sequence
    assert [each["code"] for each in refused] == ["invalid_payload"] * 3
    bucket = await line.jetstream.key_value(line.subjects.outcome_bucket)
    assert sorted(await bucket.keys()) == sorted(each["command_id"] for each in outcomes)


@pytest.mark.parametrize(
    ("question", "code"),
    [
        (b"", "invalid_payload"),
        (b"{", "invalid_payload"),
        (b"[]", "invalid_payload"),
        (b"{}", "invalid_payload"),
        (b'{"command_id": 7}', "invalid_payload"),
        (b'{"command_id": "a.>"}', "invalid_id"),
        (b'{"command_id": "\xff"}', "invalid_payload"),
    ],
)
async def test_an_invalid_status_request_is_answered_with_an_error(
    line: Line, question: bytes, code: str
) -> None:
    subject = line.subjects.query("command", "get_status")
    responder = Responder(
        line.client, status_answers(line.client, line.subjects), queue=line.domain.name
    )
    async with running(responder):
        await responder.ready.wait()
        answer = json.loads((await line.client.request(subject, question)).data)
    assert (answer["status"], answer["code"]) == ("error", code)


class GatedAnswer:
    """An answer that waits to be let go on."""

    def __init__(self) -> None:
        self.begun = 0
        self.open = asyncio.Event()
        self._more = asyncio.Event()

    async def __call__(self, request: Request) -> Reply:
        self.begun += 1
        self._more.set()
        await self.open.wait()
        return Reply(request.payload)

    async def until(self, count: int) -> None:
        while self.begun < count:
            self._more.clear()
            await self._more.wait()


async def test_received_requests_are_answered_before_it_stops(
    client: Client, settings: Settings, domain_name: str
) -> None:
    subject, gate = f"{domain_name}.query.a.b", GatedAnswer()
    responder = Responder(client, {subject: gate}, queue=domain_name, max_concurrency=2)
    async with connect(settings) as asker:
        async with running(responder):
            await responder.ready.wait()
            requests = [asyncio.create_task(asker.request(subject, b"x")) for _ in range(20)]
            await gate.until(2)
            await asker.flush()  # the server has passed on all of them
            responder.stop()
            gate.open.set()
        assert [answer.data for answer in await asyncio.gather(*requests)] == [b"x"] * 20
        with pytest.raises(NoResponders):
            await asker.request(subject)


async def test_a_cancelled_responder_is_unsubscribed(client: Client, domain_name: str) -> None:
    subject = f"{domain_name}.query.a.b"
    responder = Responder(client, {subject: echo}, queue=domain_name)
    task = asyncio.create_task(responder.run())
    await responder.ready.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(NoResponders):
        await client.request(subject)


async def test_it_stops_also_without_a_connection(settings: Settings, domain_name: str) -> None:
    async with connect(settings) as client:
        responder = Responder(client, {f"{domain_name}.query.a.b": echo}, queue=domain_name)
        async with asyncio.timeout(5), running(responder):
            await responder.ready.wait()
            await client.close()


async def test_a_full_queue_is_answered_as_busy(client: Client, domain_name: str) -> None:
    subject, gate = f"{domain_name}.query.a.b", GatedAnswer()
    responder = Responder(
        client, {subject: gate}, queue=domain_name, max_concurrency=1, max_pending=3
    )
    async with running(responder):
        await responder.ready.wait()
        waiting = [asyncio.create_task(client.request(subject, b"x")) for _ in range(3)]
        await gate.until(1)
        answer = await client.request(subject, b"x")
        assert json.loads(answer.data)["message"].startswith("3 requests are under way or wait")
        assert headers_of(answer)["Nats-Service-Error-Code"] == "busy"
        gate.open.set()
        assert [each.data for each in await asyncio.gather(*waiting)] == [b"x"] * 3
        assert (await client.request(subject, b"x")).data == b"x"  # there is room again


async def test_a_request_that_waited_too_long_is_not_answered(
    client: Client, domain_name: str
) -> None:
    subject, gate = f"{domain_name}.query.a.b", GatedAnswer()
    responder = Responder(
        client, {subject: gate}, queue=domain_name, max_concurrency=1, max_wait=0.05
    )
    async with running(responder):
        await responder.ready.wait()
        first = asyncio.create_task(client.request(subject, b"x"))
        await gate.until(1)
        late = await client.request(subject, b"x")
        assert json.loads(late.data)["code"] == "busy"
        gate.open.set()
        assert (await first).data == b"x"
        assert (await client.request(subject, b"x")).data == b"x"
    assert gate.begun == 2


async def test_one_requesters_load_does_not_delay_others(
    client: Client, settings: Settings, domain_name: str
) -> None:
    """Of those who ask, who asks most is refused first, though its requests were there before."""
    subject = f"{domain_name}.query.a.b"
    refused, over = asyncio.Event(), asyncio.Event()

    async def answer(request: Request) -> Reply:
        if request.payload == b"waits":
            async with request.waiting():
                await over.wait()
        return Reply(request.payload)

    async def note(message: Msg) -> None:
        if b"busy" in message.data:
            refused.set()

    responder = Responder(
        client, {subject: answer}, queue=domain_name, max_concurrency=2, max_pending=200
    )
    async with running(responder), connect(settings) as loud, connect(settings) as other:
        await responder.ready.wait()
        inbox = loud.new_inbox()
        await loud.subscribe(f"{inbox}.*", note)
        for number in range(10_000):
            await loud.publish(subject, b"waits", reply=f"{inbox}.{number}")
        await refused.wait()
        for number in range(5):
            answered = await other.request(subject, b"%d" % number, timeout=BOUND)
            assert answered.data == b"%d" % number
        over.set()


async def test_a_waiting_request_does_not_count_for_the_concurrency(
    client: Client, domain_name: str
) -> None:
    subject, gate = f"{domain_name}.query.a.b", GatedAnswer()

    async def wait(request: Request) -> Reply:
        async with request.waiting():
            return await gate(request)

    answers = {subject: wait, f"{subject}c": echo}
    responder = Responder(client, answers, queue=domain_name, max_concurrency=1)
    async with running(responder):
        await responder.ready.wait()
        waiting = [asyncio.create_task(client.request(subject, b"x")) for _ in range(3)]
        await gate.until(3)
        assert (await client.request(f"{subject}c", b"y")).data == b"<y>"
        gate.open.set()
        await asyncio.gather(*waiting)


async def test_an_answer_whose_helper_was_cancelled_is_an_error(
    client: Client, domain_name: str
) -> None:
    async def cancelled(_request: Request) -> Reply:
        raise asyncio.CancelledError

    subject = f"{domain_name}.query.a.b"
    responder = Responder(client, {subject: cancelled}, queue=domain_name)
    async with running(responder):
        await responder.ready.wait()
        assert json.loads((await client.request(subject)).data)["code"] == "internal"
