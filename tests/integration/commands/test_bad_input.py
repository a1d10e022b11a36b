"""Bad input: a clear error to the sender, parked with all headers, nothing in the log."""

from __future__ import annotations

import base64
import gc
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client as PlainClient

from eventstore import nix
from eventstore.client.client import Client
from eventstore.commands import Outcome
from eventstore.errors import InvalidPayload
from eventstore.messages.envelope import new_id
from eventstore.messages.types import Command
from tests.integration.commanding import Add, Decide, Fail, Line, counting, opened

ID = "0191d9b5-7c5c-4a3e-9d55-0d6d1c6f6f3c"
OTHER = "0191d9b5-7c5c-4a3e-9d55-0d6d1c6f6f3d"

MODULE = {"X-Aggregate-ID": "m1"}
ROOT = {"X-Event-ID": ID, "X-Correlation-ID": ID, "X-Causation-ID": ID}
NAMED = b'{"name": "m", "content": ""}'

# What is wrong: subject after "cmd.", headers, payload, the outcome's code, and what it names.
BAD: dict[str, tuple[str, dict[str, str], bytes, str, str]] = {
    "not JSON": ("module.create", MODULE, b"{name: m}", "invalid_payload", "CreateModule"),
    "half JSON": ("module.create", MODULE, b'{"name": "m"', "invalid_payload", "truncated"),
    "a list": ("module.create", MODULE, b"[1]", "invalid_payload", "object"),
    "invalid UTF-8": ("module.create", MODULE, b'{"name": "\xff"}', "invalid_payload", ""),
    "binary": ("module.create", MODULE, bytes(range(256)), "invalid_payload", ""),
    "a missing field": ("module.create", MODULE, b'{"name": "m"}', "invalid_payload", "content"),
    "a wrong type": ("module.update", MODULE, b'{"content": 7}', "invalid_payload", "content"),
    "an unknown field": ("module.delete", MODULE, b'{"x": 1}', "invalid_payload", "`x`"),
    "null": ("module.create", MODULE, b"null", "invalid_payload", "null"),
    "deeply nested": (
        "module.create",
        MODULE,
        b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "invalid_payload",
        "CreateModule",
    ),
    "a large payload": ("module.create", MODULE, b"[" + b"1," * 510_000, "invalid_payload", ""),
    "an unknown action": ("module.destroy", MODULE, b"{}", "unknown_type", "destroy"),
    "an unknown aggregate": ("teapot.create", MODULE, b"{}", "unknown_type", "teapot"),
    "an illegal action": ("module.CREATE", MODULE, NAMED, "unknown_type", "CREATE"),
    "an id with a dot": (
        "module.create",
        {"X-Aggregate-ID": "one.two"},
        NAMED,
        "invalid_header",
        "one.two",
    ),
    "an id of 129": (
        "module.create",
        {"X-Aggregate-ID": "a" * 129},
        NAMED,
        "invalid_header",
        "X-Aggregate-ID",
    ),
    "an empty id": (
        "module.create",
        {"X-Aggregate-ID": ""},
        NAMED,
        "invalid_header",
        "X-Aggregate-ID",
    ),
    "no id": ("module.update", {}, b'{"content": ""}', "invalid_header", "X-Aggregate-ID"),
    "another type's name": (
        "module.create",
        {**MODULE, "X-Event-Type": "DeleteModule"},
        NAMED,
        "invalid_header",
        "DeleteModule",
    ),
    "an event id that is none": (
        "module.create",
        {**MODULE, "X-Event-ID": "17"},
        NAMED,
        "invalid_header",
        "X-Event-ID",
    ),
    "two ids": (
        "module.create",
        {**MODULE, "X-Event-ID": ID, "Nats-Msg-Id": OTHER},
        NAMED,
        "invalid_header",
        "Nats-Msg-Id",
    ),
    "a cause without its correlation": (
        "module.create",
        {**MODULE, "X-Event-ID": ID, "X-Correlation-ID": ID, "X-Causation-ID": OTHER},
        NAMED,
        "invalid_header",
        "X-Causation-ID",
    ),
    "a correlation that is none": (
        "module.create",
        {**MODULE, "X-Correlation-ID": "saga"},
        NAMED,
        "invalid_header",
        "X-Correlation-ID",
    ),
    "a bad time": (
        "module.create",
        {**MODULE, "X-Timestamp": "yesterday"},
        NAMED,
        "invalid_header",
        "X-Timestamp",
    ),
    "another content type": (
        "module.create",
        {**MODULE, "Content-Type": "application/xml"},
        NAMED,
        "invalid_header",
        "Content-Type",
    ),
    "a later schema": (
        "module.create",
        {**MODULE, "X-Schema-Version": "2"},
        NAMED,
        "unsupported_schema",
        "version 2",
    ),
    "60 KB of headers, and no JSON": (
        "module.create",
        {**MODULE, **{f"X-Filler-{number}": "f" * 1_000 for number in range(58)}},
        b"{",
        "invalid_payload",
        "CreateModule",
    ),
}


@pytest.fixture
async def line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, nix.domain(domain_name)) as line:
        yield line


@pytest.fixture
async def counter_line(client: Client, domain_name: str) -> AsyncIterator[Line]:
    async with opened(client, counting(domain_name)) as line:
        yield line


@pytest.fixture
async def plain(nats_server: Any) -> AsyncIterator[PlainClient]:
    connection = await nats.connect(nats_server.url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_is_answered_and_parked_and_changes_nothing(
    line: Line, plain: PlainClient, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    place, headers, payload, code, named = BAD[name]
    inbox = plain.new_inbox()
    answers = await plain.subscribe(inbox)
    given = {**headers, "X-Reply-To": inbox}
    subject = f"{line.domain.name}.cmd.{place}"
    async with line.working():
        ack = await plain.jetstream().publish(subject, payload, headers=given)
        answer = await answers.next_msg(timeout=20)
        good = await line.commands.execute(nix.CreateModule(name="m", content=""), "m1")

    outcome = json.loads(answer.data)
    assert (outcome["status"], outcome["code"]) == ("error", code)
    assert named in outcome["message"]
    assert len(outcome["message"]) < 10_000
    assert (outcome["version"], outcome["position"], outcome["event_ids"]) == (0, 0, [])
    assert (good.status, good.version) == ("success", 1)
    await line.until_done()
    assert await line.log_size() == 1

    (parked,) = await line.parked()
    assert base64.b64decode(parked["payload"]) == payload
    assert parked["headers"] == given
    assert parked["subject"] == subject
    assert (parked["code"], parked["reason"]) == (code, outcome["message"])
    assert (parked["stream"], parked["sequence"]) == (line.subjects.command_stream, ack.seq)
    assert (parked["delivered"], parked["command_id"]) == (1, outcome["command_id"])
    kept = await line.commands.outcome(outcome["command_id"])
    assert kept == Outcome.from_json(answer.data)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_headers_that_are_no_utf_8_do_no_harm(line: Line) -> None:
    subject = f"{line.domain.name}.cmd.module.create"
    block = b"NATS/1.0\r\nX-Aggregate-ID: m\xff\r\nX-\xfe: y\r\n\r\n"
    sizes = f"{len(block)} {len(block) + len(NAMED)}"
    await line.client.nats._send_command(  # the plain client cannot send such headers
        f"HPUB {subject}  {sizes}\r\n".encode() + block + NAMED + b"\r\n"
    )
    await line.client.flush()
    async with line.working():
        await line.until_done()
        good = await line.commands.execute(nix.CreateModule(name="m", content=""), "m1")
    assert good.status == "success"
    (parked,) = await line.parked()
    assert parked["code"] == "invalid_header"
    assert "X-Aggregate-ID" in parked["reason"]


async def test_60_kb_of_headers_on_a_good_command_are_no_matter(
    line: Line, plain: PlainClient
) -> None:
    fillers = {f"X-Filler-{number}": "f" * 1_000 for number in range(58)}
    subject = f"{line.domain.name}.cmd.module.create"
    await plain.jetstream().publish(subject, NAMED, headers={**MODULE, **fillers})
    async with line.working():
        await line.until_done()
    assert len(await line.read("m1", "module")) == 1


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
async def test_what_was_parked_is_freed_at_once(line: Line, plain: PlainClient) -> None:
    """It may be large, and collections are rare."""
    subject = f"{line.domain.name}.cmd.module.create"
    async with line.working():
        for _ in range(20):
            await plain.jetstream().publish(subject, b"{name: m}", headers=MODULE)
        await line.until_done()
        kept = [each for each in gc.get_objects() if type(each) is InvalidPayload]
    assert len(await line.parked()) == 20
    assert not kept


async def test_deleting_needs_no_payload(line: Line, plain: PlainClient) -> None:
    async with line.working():
        await line.commands.execute(nix.CreateModule(name="m", content=""), "m1")
        subject = f"{line.domain.name}.cmd.module.delete"
        await plain.jetstream().publish(subject, b"", headers=MODULE)
        await line.until_done()
    assert [event.type for event in await line.read("m1", "module")] == [
        "ModuleCreated",
        "ModuleDeleted",
    ]


async def test_what_cannot_be_answered_in_full_is_answered_in_short(
    line: Line, plain: PlainClient
) -> None:
    own = new_id()
    headers = {"Nats-Msg-Id": own, "X-Aggregate-ID": "m" * 50_000}
    async with line.working():
        subject = f"{line.domain.name}.cmd.module.create"
        await plain.jetstream().publish(subject, NAMED, headers=headers)
        await line.until_done()
    outcome = await line.commands.outcome(own)
    assert outcome is not None
    assert outcome.aggregate_id is None
    assert len(outcome.to_json()) < 2_000


@pytest.mark.parametrize(
    ("command", "code", "named"),
    [
        (Fail(), "handler_failed", "RuntimeError: a decider's mistake"),
        (Decide(what="stray"), "decider", "Stray"),
        (Decide(what="foreign"), "decider", "str"),
        (Decide(what="broken"), "decider", "Filled"),
        (Decide(what="huge"), "event_too_large", "Filled"),
        (Decide(what="nothing known"), "handler_failed", "KeyError"),
    ],
    ids=["raises", "unregistered", "no event", "not storable", "too large", "looks up in vain"],
)
async def test_a_decider_at_fault_is_an_error_outcome_and_the_others_go_on(
    counter_line: Line, command: Command, code: str, named: str
) -> None:
    line = counter_line
    async with line.working(max_failures=1):
        await line.commands.execute(Add(amount=2), "c1")
        outcome = await line.commands.execute(command, "c1")
        after = await line.commands.execute(Add(amount=2), "c1")
    assert (outcome.status, outcome.code) == ("error", code)
    assert named in outcome.message
    assert (outcome.aggregate, outcome.aggregate_id) == ("counter", "c1")
    assert (after.status, after.version) == ("success", 2)
    assert await line.log_size() == 2
    (parked,) = await line.parked()
    assert parked["code"] == code
    assert parked["headers"]["X-Event-ID"] == outcome.command_id
    assert base64.b64decode(parked["payload"]) == line.domain.codec.encode(command)


async def test_the_same_bad_command_redelivered_is_answered_equally(
    line: Line, plain: PlainClient
) -> None:
    subject = f"{line.domain.name}.cmd.module.create"
    headers = {**MODULE, **ROOT}
    async with line.working():
        for _ in range(2):  # without Nats-Msg-Id the stream takes both
            await plain.jetstream().publish(subject, b"{", headers=headers)
        await line.until_done()
    first = await line.commands.outcome(ID)
    assert first is not None
    assert first.code == "invalid_payload"
    assert len(await line.parked()) == 2
