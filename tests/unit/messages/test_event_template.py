"""Events to be written have the headers, and the chain value, that readers find in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from eventstore.client.protocol import header_block, header_lines
from eventstore.errors import InvalidHeader
from eventstore.messages.chain import chain_value, chained_optional
from eventstore.messages.envelope import Envelope, optional_lines
from eventstore.messages.event_lines import read_event_lines
from eventstore.messages.event_template import EncodedEvent, EventTemplate
from tests.unit.messages.test_event_lines import SUBJECT, envelopes

LAST = ("X-Aggregate-Version", "X-Chain")


def encoded(envelope: Envelope, payload: bytes) -> EncodedEvent:
    """An event with this envelope."""
    actor, sender = envelope.actor, envelope.authenticated_as
    digest, traceparent = envelope.command_digest, envelope.traceparent
    return EncodedEvent(
        EventTemplate(envelope.domain, envelope.type, envelope.schema_version),
        SUBJECT,
        envelope.aggregate_id or "",
        envelope.identity,
        envelope.timestamp,
        optional_lines(actor, sender, digest, traceparent),
        chained_optional(actor, sender, traceparent),
        payload,
    )


@given(envelopes(), st.binary(min_size=32, max_size=32), st.binary(max_size=50))
def test_an_event_has_the_headers_of_its_envelope_and_the_value_that_readers_compute(
    envelope: Envelope, before: bytes, payload: bytes
) -> None:
    version, previous = envelope.version or 0, before.hex()
    lines, chain = encoded(envelope, payload).written(previous, version)
    headers = structs.replace(envelope, chain=chain).to_headers()
    first = {name: value for name, value in headers.items() if name not in LAST}
    assert sorted(lines.split("\r\n")) == sorted(header_lines(headers).split("\r\n"))
    assert lines.endswith(header_lines({name: headers[name] for name in LAST}))
    assert set(first) <= {line.partition(":")[0] for line in lines.split("\r\n")}
    assert chain == chain_value(previous, SUBJECT, headers, payload)


@given(envelopes(), st.binary(max_size=50))
def test_an_event_is_read_by_the_pattern(envelope: Envelope, payload: bytes) -> None:
    lines, chain = encoded(envelope, payload).written("0" * 64, envelope.version or 0)
    text = header_block(lines).decode()
    read = read_event_lines(text, len(text) - 2)
    if envelope.identity.id in (envelope.identity.causation_id, envelope.identity.correlation_id):
        return  # a root, or ids that are drawn alike
    assert read is not None
    assert read.envelope == structs.replace(envelope, chain=chain)


@pytest.mark.parametrize(("name", "version"), [("_Hidden", 1), ("É", 1), ("T" * 129, 1), ("T", 0)])
def test_what_may_not_be_in_a_header_is_refused(name: str, version: int) -> None:
    with pytest.raises(InvalidHeader):
        EventTemplate("bank", name, version)
