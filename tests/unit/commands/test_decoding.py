from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from eventstore import nix
from eventstore.client.connection import Connection, Message
from eventstore.client.protocol import header_block
from eventstore.commands.command_message import CommandMessage
from eventstore.commands.decoding import DecodedCommand, ReceivedCommand
from eventstore.errors import InvalidHeader, InvalidPayload
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Envelope, EventHeaders, Identity, derive_id, new_id
from eventstore.messages.types import Command

CODEC = nix.domain().codec
OWN = new_id()


def message(
    place: str = "module.create",
    headers: dict[str, str] | None = None,
    data: bytes = b'{"name": "m", "content": ""}',
    *,
    delivered: int = 1,
    sequence: int = 17,
) -> Message:
    reply = f"$JS.ACK.NIX_CMD.worker.{delivered}.{sequence}.{sequence}.1700000000000000000.0"
    block = header_block(headers) if headers else b""
    return Message(Connection(), f"nix.cmd.{place}".encode(), reply.encode(), data, block)


def received(*arguments: Any, **options: Any) -> ReceivedCommand:
    return ReceivedCommand.of(CODEC, message(*arguments, **options))


def accepted(*arguments: Any, **options: Any) -> DecodedCommand:
    content = received(*arguments, **options).content
    assert isinstance(content, DecodedCommand)
    return content


@pytest.mark.parametrize(
    ("actor", "extra"),
    [
        (None, {}),
        (None, {"X-Reply-To": "_INBOX.a.s.b"}),
        ("é", {"X-Reply-To": "_INBOX.a.s.b", "X-Expected-Version": "3", "X-ID-Derived": "1"}),
    ],
)
def test_what_the_client_sends_is_read_by_one_pattern(
    actor: str | None, extra: dict[str, str]
) -> None:
    envelope = Envelope(
        identity=Identity.root(),
        type="CreateModule",
        domain="nix",
        timestamp="2026-01-02T03:04:05.678901Z",
        aggregate_id="m1",
        actor=actor,
    )
    command = nix.CreateModule(name="m", content="")
    sent = CommandMessage(CODEC, command, envelope, extra, is_checked=True)
    draft = sent.draft
    found = ReceivedCommand.of(
        CODEC,
        Message(
            Connection(),
            draft.subject.encode(),
            message().reply.encode(),
            draft.payload,
            header_block(draft.lines),
        ),
    )
    assert isinstance(found.headers, EventHeaders)
    assert isinstance(found.content, DecodedCommand)
    assert found.content.envelope == envelope
    assert found.content.digest == sent.digest
    assert found.content.expected == (3 if "X-Expected-Version" in extra else None)
    assert found.reply_to == extra.get("X-Reply-To", "")
    assert not found.is_bare


@pytest.mark.parametrize("block", [b"NATS/1.0", b"NATS/1.0\r\nX-Event-ID\r\n\r\n", b"\xff"])
def test_headers_of_which_nothing_can_be_read_are_refused(block: bytes) -> None:
    usual = message()
    unreadable = Message(
        Connection(), usual.subject.encode(), usual.reply.encode(), usual.data, block
    )
    content = ReceivedCommand.of(CODEC, unreadable).content
    assert isinstance(content, InvalidHeader)


def test_a_bare_command_is_a_root_stored_when_it_was() -> None:
    bare = accepted()
    assert bare.identity == Identity.root(bare.identity.id)
    assert bare.envelope.timestamp == "2023-11-14T22:13:20.000000Z"
    assert (bare.envelope.type, bare.envelope.domain) == ("CreateModule", "nix")
    assert bare.key == ("module", derive_id(bare.identity.id, "aggregate"))
    assert bare.command == nix.CreateModule(name="m", content="")


@pytest.mark.parametrize(
    "headers", [None, {}, {"Nats-Msg-Id": "x"}, {"X-Event-ID": "none"}, {"Nats-Msg-Id": OWN}]
)
def test_every_delivery_has_the_same_id(headers: dict[str, str] | None) -> None:
    first = received(headers=headers)
    again = received(headers=headers, delivered=3)
    assert first.command_id == again.command_id
    assert (first.delivery.delivered, again.delivery.delivered) == (1, 3)


def test_what_has_no_id_gets_one_from_its_sequence() -> None:
    assert received(sequence=1).command_id != received(sequence=2).command_id


def test_the_same_message_id_is_the_same_command_wherever_it_is() -> None:
    headers = {"Nats-Msg-Id": "order-17"}
    first, second = (received(headers=headers, sequence=number) for number in (1, 2))
    assert first.command_id == second.command_id


@pytest.mark.parametrize("name", ["X-Event-ID", "Nats-Msg-Id"])
def test_an_id_of_its_own_is_used(name: str) -> None:
    assert received(headers={name: OWN}).command_id == OWN


def test_the_queue_key_is_the_aggregate_even_if_its_id_is_derived() -> None:
    derived = received(headers={"X-Event-ID": OWN})
    named = received(headers={"X-Aggregate-ID": derive_id(OWN, "aggregate")})
    assert derived.queue_key == named.queue_key == ("module", derive_id(OWN, "aggregate"))


def test_undecoded_commands_have_queue_keys_of_their_own() -> None:
    undecoded = [received(data=b"{", headers={"X-Aggregate-ID": "m1"}, sequence=n) for n in (1, 2)]
    assert undecoded[0].queue_key != undecoded[1].queue_key


def test_what_cannot_be_decoded_still_has_an_id_and_a_reason() -> None:
    bad = received(headers={"X-Aggregate-ID": "one.two", "Nats-Msg-Id": OWN})
    assert isinstance(bad.content, InvalidHeader)
    assert (bad.command_id, bad.aggregate, bad.aggregate_id) == (OWN, "module", None)


def test_an_error_in_a_command_classs_own_check_is_a_reason_too() -> None:
    class Picky(Command, subject="picky.do", creates=True):
        def __post_init__(self) -> None:
            raise LookupError("too picky")

    codec = type(CODEC)("nix", [Picky], [])
    content = ReceivedCommand.of(codec, message("picky.do", data=b"{}")).content
    assert isinstance(content, InvalidPayload)
    assert "LookupError: too picky" in str(content)


@pytest.mark.parametrize("data", [b"{}", b" { } ", b"", b'{"n":0}'])
def test_a_default_that_is_recreated_makes_no_other_command(data: bytes) -> None:
    class Stamp(Command, subject="clock.stamp", creates=True):
        own: str = msgspec.field(default_factory=lambda: uuid.uuid4().hex)
        n: int = 0

    codec = Codec("nix", [Stamp], [])
    headers = {"X-Event-ID": OWN}
    first, again = (
        ReceivedCommand.of(codec, message("clock.stamp", headers, sent)).content
        for sent in (b"{}", data)
    )
    assert isinstance(first, DecodedCommand)
    assert isinstance(again, DecodedCommand)
    assert again.command != first.command
    assert again.digest == first.digest


@pytest.mark.parametrize("header", ["X-Correlation-ID", "X-Causation-ID"])
def test_half_a_correlation_is_completed(header: str) -> None:
    correlation = new_id()
    identity = accepted(headers={header: correlation}).identity
    assert (identity.correlation_id, identity.causation_id) == (correlation, correlation)


def test_a_complete_envelope_is_taken_as_it_is() -> None:
    headers = {
        "X-Event-ID": OWN,
        "X-Event-Type": "CreateModule",
        "X-Correlation-ID": OWN,
        "X-Causation-ID": OWN,
        "X-Timestamp": "2026-01-01T00:00:00.000000Z",
        "X-Domain": "elsewhere",
        "X-Aggregate-ID": "m1",
        "X-Actor": "ann",
    }
    envelope = accepted(headers=headers).envelope
    assert (envelope.domain, envelope.actor, envelope.aggregate_id) == ("elsewhere", "ann", "m1")
    assert envelope.timestamp == "2026-01-01T00:00:00.000000Z"


def test_the_address_for_the_outcome_is_the_commands() -> None:
    assert received(headers={"X-Reply-To": "_INBOX.abc"}).reply_to == "_INBOX.abc"


def test_without_an_address_nothing_is_replied() -> None:
    assert received().reply_to == ""


@pytest.mark.parametrize("trace", ["", "00-xyz", "nonsense", f"00-{'A' * 32}-{'b' * 16}-01", "ü"])
def test_a_trace_that_is_none_is_left_out(trace: str) -> None:
    whole = {
        "X-Event-ID": OWN,
        "X-Event-Type": "CreateModule",
        "X-Correlation-ID": OWN,
        "X-Causation-ID": OWN,
        "X-Timestamp": "2026-01-01T00:00:00.000000Z",
        "X-Domain": "nix",
    }
    for headers in ({}, whole):
        assert accepted(headers={**headers, "traceparent": trace}).envelope.traceparent is None


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=UTF-8",
        'application/json; charset="utf-8"',
        "application/json; charset=utf8;",
        "application/json ; charset=us-ascii",
    ],
)
def test_json_in_utf8_is_json(content_type: str) -> None:
    assert accepted(headers={"Content-Type": content_type})


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=latin-1", "application/xml", "text/json", "application/jsonx", ""],
)
def test_anything_else_is_not(content_type: str) -> None:
    assert isinstance(received(headers={"Content-Type": content_type}).content, InvalidHeader)
