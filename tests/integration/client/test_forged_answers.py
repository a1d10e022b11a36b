"""What another client answers in the server's place is not accepted, and ends in a named error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from eventstore.client.client import Client, Msg, connect
from eventstore.commands import Outcomes
from eventstore.commands.consumer import worker_consumer
from eventstore.commands.outcome_log import OutcomeLog
from eventstore.config import Settings, StreamSettings
from eventstore.errors import ClientError, InvalidAnswer, RequestTimeout
from eventstore.jetstream.consumer import PullConsumer
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.publish import guarded, publish, publish_acked
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import new_id
from eventstore.projections.feed.position import FeedPosition
from eventstore.service.checks import CommandsCheck
from eventstore.service.runtime_config import RuntimeConfig
from eventstore.store.key_bucket import KeyBucket
from eventstore.store.log import StoredLog
from eventstore.store.store import EventStore
from eventstore.subscribers.consumer import (
    SubscriberConsumer,
    check_consumer,
    declare_subscriber,
)
from eventstore.transfer.fence import Fence
from tests.integration.commanding import Add, Line, counting, opened
from tests.integration.ledger import Deposited
from tests.unit.jetstream.test_publish import draft

BOUND = 20.0
PREFIX = "FORGED.API"


@pytest.fixture(autouse=True)
async def bound() -> AsyncIterator[None]:
    async with asyncio.timeout(50):
        yield


@pytest.fixture
async def forger(settings: Settings) -> AsyncIterator[Client]:
    """Another client, that may listen and answer."""
    async with connect(settings) as forger:
        yield forger


@pytest.fixture
async def deceived(settings: Settings, domain_name: str) -> AsyncIterator[Client]:
    """A client that asks where nobody but the forger answers."""
    nats = msgspec.structs.replace(settings.nats, api_prefix=f"{domain_name}.{PREFIX}")
    async with connect(msgspec.structs.replace(settings, nats=nats)) as client:
        yield client


def reads(client: Client, codec: Codec) -> dict[str, Callable[[], Awaitable[object]]]:
    """Everything that reads an answer of JetStream's API."""
    subjects, timeout = codec.subjects, 0.3
    direct = DirectReader(client, subjects.log_stream, timeout=timeout)
    command_id = new_id()

    async def pages() -> object:
        return [page async for page in direct.pages(subjects.log("account", "a1"))]

    async def log_pages() -> object:
        log = StoredLog(client, subjects.log_stream, retry_timeout=0.1)
        return [page async for page in log.pages()]

    return {
        "api": lambda: client.api("STREAM.INFO.X"),
        "direct last": lambda: direct.last(subjects.log("account", "a1")),
        "direct at": lambda: direct.at(7),
        "leader last": lambda: direct.leader_last(subjects.log("account", "a1")),
        "leader at": lambda: direct.at(7, leader=True),
        "leader next": lambda: direct.leader_next(subjects.log("account", "a1"), 6),
        "pages": pages,
        "check stream": direct.check_stream,
        "raw log end": StoredLog(client, subjects.log_stream).end,
        "raw log identity": StoredLog(client, subjects.log_stream).identity,
        "raw log pages": log_pages,
        "outcome": lambda: Outcomes(client, subjects).get(command_id),
        "final outcome": lambda: Outcomes(client, subjects).final(command_id),
        "final outcome again": lambda: Outcomes(client, subjects).final(
            command_id, redelivered=True
        ),
        "kept outcomes' state": OutcomeLog(client, subjects).state,
        "kept outcomes' last": OutcomeLog(client, subjects).last,
        "key": lambda: KeyBucket(client, subjects).find("ref"),
        "configuration": lambda: RuntimeConfig(client, subjects).get("log_level"),
        "feed position": FeedPosition(client, subjects).find,
        "commands check": CommandsCheck(client, worker_consumer(codec)),
        "subscriber": lambda: check_consumer(client, subjects, "s"),
        "new subscriber": lambda: declare_subscriber(
            client, subjects, SubscriberConsumer("s", frozenset({">"})), 5
        ),
        "topology": lambda: declare(client, topology(subjects, StreamSettings())),
        "fence": Fence(client, subjects, StreamSettings()).state,
        "fence's last": Fence(client, subjects, StreamSettings()).last,
    }


STORED = {"Nats-Stream": "X", "Nats-Subject": "x", "Nats-Sequence": "1"}
FORGED: list[tuple[bytes, dict[str, str]]] = [
    (b"", {}),
    (b"garbage", {}),
    (b"\xff\xfe", {}),
    (b"[]", {}),
    (b"null", {}),
    (b"[" * 100_000, {}),
    (b'{"message":' * 50_000, {}),
    (b'{"error": "yes"}', {}),
    (b'{"error": {"code": "x"}}', {}),
    (b'{"message": {}}', {}),
    (b'{"message": {"subject": 5, "seq": "x"}}', {}),
    (b'{"message": {"subject": "x", "seq": 0}}', {}),
    (b'{"message": {"subject": "x", "seq": 1, "data": "*"}}', {}),
    (b'{"message": {"subject": "not.what.was.asked", "seq": 9}}', {}),
    (b'{"config": {}, "state": {}, "created": 5}', {}),
    (b'{"config": 5, "state": {"last_seq": -1}, "created": ""}', {}),
    (b'{"name": "x", "config": [], "num_pending": "many"}', {}),
    (b"{}", {"Status": "many"}),
    (b"{}", {"Status": "\u0662"}),
    (b"{}", {"Nats-Sequence": "x"}),
    (b"{}", {**STORED, "Nats-Sequence": "-1"}),
    (b"{}", {**STORED, "Nats-Sequence": "9" * 5_000}),
    (b"{}", STORED),
    (b"", {"Status": "204", "Nats-Num-Pending": "x"}),
    (b"", {"Status": "204"}),
    (b"", {"Status": "204", "Nats-Last-Sequence": "\u0663"}),
]


async def test_a_malformed_answer_is_an_invalid_answer(
    deceived: Client, forger: Client, codec: Codec, domain_name: str
) -> None:
    forged: tuple[bytes, dict[str, str]] = (b"", {})

    async def answer(message: Msg) -> None:
        payload, headers = forged
        if message.reply:
            await forger.publish(message.reply, payload, headers=headers)

    await forger.subscribe(f"{domain_name}.{PREFIX}.>", answer)
    await forger.flush()
    accepted = set()
    for forged in FORGED:
        for name, read in reads(deceived, codec).items():
            try:
                await read()
            except ClientError:
                continue
            accepted.add((name, forged[0][:40], *forged[1]))

    # An object is what an answer may be where no field of it is read; and where a page is at its
    # end, and nothing more, is what the server says in just that way.
    assert {name for name, *_ in accepted} <= {"api"}


async def test_the_error_names_the_request(
    deceived: Client, forger: Client, codec: Codec, domain_name: str
) -> None:
    async def answer(message: Msg) -> None:
        await forger.publish(message.reply, b'{"message": {}}')

    await forger.subscribe(f"{domain_name}.{PREFIX}.>", answer)
    await forger.flush()
    subject = f"{domain_name}.{PREFIX}.STREAM.MSG.GET.{codec.subjects.log_stream}"
    with pytest.raises(InvalidAnswer, match=subject):
        await DirectReader(deceived, codec.subjects.log_stream).leader_next(">", 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"stream": "KEPT"}',
        b'{"seq": 5}',
        b'{"stream": "KEPT", "seq": 0}',
        b'{"stream": "KEPT", "seq": "5"}',
        b'{"stream": "", "seq": 5}',
        b'{"stream": "OTHER", "seq": 5}',
        b'{"stream": "KEPT", "seq": 5, "duplicate": "x"}',
        b"[" * 100_000,
    ],
)
async def test_an_ack_needs_the_stream_and_a_sequence(
    client: Client, forger: Client, domain_name: str, answer: bytes
) -> None:
    async def acknowledge(message: Msg) -> None:
        await forger.publish(message.reply, answer)

    await forger.subscribe(f"{domain_name}.kept", acknowledge)
    await forger.flush()
    with pytest.raises(InvalidAnswer, match=rf"{domain_name}\.kept"):
        await publish_acked(client, f"{domain_name}.kept", b"{}", stream="KEPT")


@pytest.mark.parametrize("batch", ['"other"', "null", "5"])
async def test_the_ack_of_a_batch_needs_its_id(
    client: Client, forger: Client, domain_name: str, batch: str
) -> None:
    async def acknowledge(message: Msg) -> None:
        if message.reply:
            answer = f'{{"stream": "KEPT", "seq": 5, "batch": {batch}, "count": 2}}'
            await forger.publish(message.reply, answer.encode())

    await forger.subscribe(f"{domain_name}.kept", acknowledge)
    await forger.flush()
    messages = guarded([draft(f"{domain_name}.kept"), draft(f"{domain_name}.kept")], {})
    with pytest.raises(InvalidAnswer):
        await publish(client, messages, BOUND, "KEPT")


async def test_an_append_reads_the_log_if_its_ack_is_forged(
    client: Client, store: EventStore, forger: Client
) -> None:
    """The forger hears what is appended, and answers together with the stream."""

    async def acknowledge(message: Msg) -> None:
        if message.reply:
            for forged in (b"{}", b'{"stream": "OTHER", "seq": 9999}', b"nonsense"):
                await forger.publish(message.reply, forged)

    await forger.subscribe(f"{store.codec.domain}.log.>", acknowledge)
    await forger.flush()
    for number in range(1, 31):
        appended = await store.append("account", "a1", Deposited(amount=number))
        assert (appended.version, appended.position) == (number, number)
    assert [event.data.amount async for event in store.read("account", "a1")] == list(range(1, 31))  # type: ignore[attr-defined]


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


async def test_an_outcome_is_accepted_for_its_command_only(line: Line, forger: Client) -> None:
    """The forger hears each command with its address, and answers before any worker is there."""
    heard = asyncio.Event()
    false = {"status": "success", "message": "ok", "code": "", "version": 99, "position": 999}

    async def answer(message: Msg) -> None:
        inbox = (message.headers or {}).get("X-Reply-To", "")
        for forged in (
            b"",
            b"garbage",
            b"[" * 100_000,
            json.dumps(false).encode(),
            json.dumps({**false, "command_id": new_id()}).encode(),
            json.dumps({**false, "command_id": 5}).encode(),
        ):
            await forger.publish(inbox, forged)
        await forger.flush()
        heard.set()

    await forger.subscribe(f"{line.subjects.domain}.cmd.>", answer)
    await forger.flush()
    executing = asyncio.create_task(line.commands.execute(Add(amount=3), "c1", timeout=BOUND))
    await heard.wait()
    await line.client.flush()
    assert not executing.done()
    async with line.working():
        outcome = await executing
    assert (outcome.status, outcome.version, outcome.position) == ("success", 1, 1)


async def test_a_pull_takes_only_what_its_consumer_delivers(line: Line, forger: Client) -> None:
    """What comes to the inbox from elsewhere is not handled, and above all not acknowledged."""
    stream, log = line.subjects.command_stream, line.subjects.log("counter", "c1")
    async with line.working() as worker:
        async with PullConsumer(line.client, stream, "worker", buffer=1) as pull:
            await line.client.flush()
            replies = [  # the server itself refuses $JS.ACK from a client
                "",
                log,
                f"$JS.API.STREAM.DELETE.{line.subjects.log_stream}",
                f"{log}.$JS.ACK.{stream}.worker.1.1.1.1764000000000000000.0",
            ]
            for reply in replies:
                await forger.publish(f"{pull._inbox}.1", b"{}", reply=reply)
                await forger.publish(
                    f"{pull._inbox}.1", b"{}", reply=reply, headers={"Status": "x"}
                )
            await forger.flush()
            await line.client.flush()
            assert pull.drain() == []
            assert pull.foreign == 2 * len(replies)
        outcome = await line.commands.execute(Add(), "c1", timeout=BOUND)
    assert outcome.status == "success"
    assert worker.handled == 1
    assert await line.log_size() == 1


async def test_statuses_without_a_valid_number_do_not_break_a_pull(
    line: Line, forger: Client
) -> None:
    stream = line.subjects.command_stream
    async with (
        line.working(),
        PullConsumer(line.client, stream, "worker", buffer=4, heartbeat=2.0) as pull,
    ):
        taking = asyncio.create_task(pull.take(1))
        while not pull._open:  # noqa: ASYNC110  # it asks at once
            await asyncio.sleep(0)
        (token,) = pull._open
        for owed in ("x", "-5", "\u0663", "9" * 5_000, "1000000"):
            status = {"Status": "408", "Description": "Timeout", "Nats-Pending-Messages": owed}
            await forger.publish(f"{pull._inbox}.{token}", headers=status)
        await forger.flush()
        await line.client.flush()
        assert pull._requested >= 0
        assert not taking.done()
        taking.cancel()


async def test_nobody_can_guess_a_reply_subject(client: Client, domain_name: str) -> None:
    replies: list[str] = []

    async def answer(message: Msg) -> None:
        replies.append(message.reply)
        await client.publish(message.reply, b"{}")

    await client.subscribe(f"{domain_name}.>", answer)
    for _ in range(50):
        await client.request(f"{domain_name}.ask")
    inboxes = [client.new_inbox() for _ in range(50)]

    tokens = {each.removeprefix(f"{client.inbox_prefix}.") for each in (*replies, *inboxes)}
    assert len(tokens) == 100
    for position in range(24):
        assert len({token.rpartition(".")[2][position] for token in tokens}) > 4


async def test_an_answer_without_a_pending_request_is_dropped(
    client: Client, forger: Client, domain_name: str
) -> None:
    request_arrived = asyncio.Event()

    async def hear(_message: Msg) -> None:
        request_arrived.set()

    await forger.subscribe(f"{domain_name}.ask", hear)
    await forger.flush()
    asking = asyncio.create_task(client.request(f"{domain_name}.ask", timeout=0.5))
    await request_arrived.wait()
    for number in range(1, 200):  # as the tokens once were
        await forger.publish(f"{client.inbox_prefix}.{number}", b"forged")
    with pytest.raises(RequestTimeout):
        await asking
