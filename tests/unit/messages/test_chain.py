from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.envelope import Envelope, Identity, format_timestamp
from eventstore.messages.headers import Header
from eventstore.testing import START

SUBJECT = "nix.log.flake.f1"
PAYLOAD = b'{"path":"/srv"}'
HEADERS = Envelope(
    identity=Identity(
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-000000000002",
        "00000000-0000-4000-8000-000000000003",
    ),
    type="FlakeCreated",
    domain="nix",
    timestamp=format_timestamp(START),
    aggregate_id="f1",
    version=1,
    actor="ann",
    traceparent=f"00-{'1' * 32}-{'2' * 16}-01",
).to_headers()
COVERED = [
    Header.EVENT_ID,
    Header.EVENT_TYPE,
    Header.CORRELATION_ID,
    Header.CAUSATION_ID,
    Header.AGGREGATE_ID,
    Header.AGGREGATE_VERSION,
    Header.SCHEMA_VERSION,
    Header.TIMESTAMP,
    Header.DOMAIN,
    Header.ACTOR,
    Header.TRACEPARENT,
    Header.CONTENT_TYPE,
]


def value(
    previous: str = GENESIS,
    subject: str = SUBJECT,
    headers: dict[str, str] | None = None,
    payload: bytes = PAYLOAD,
) -> str:
    return chain_value(previous, subject, HEADERS if headers is None else headers, payload)


def test_the_value_never_changes() -> None:
    lines = [GENESIS, SUBJECT, *(HEADERS[name] for name in COVERED)]
    expected = hashlib.sha256("\n".join(lines).encode() + b"\n" + PAYLOAD).hexdigest()

    assert value() == expected
    assert len(value()) == 64


@pytest.mark.parametrize("name", COVERED)
def test_each_header_of_the_envelope_counts(name: str) -> None:
    without = {key: text for key, text in HEADERS.items() if key != name}

    assert len({value(), value(headers={**HEADERS, name: "x"}), value(headers=without)}) == 3


@pytest.mark.parametrize("name", [Header.CHAIN, Header.MESSAGE_ID, "Nats-Sequence", "Other"])
def test_other_headers_do_not_count(name: str) -> None:
    assert value(headers={**HEADERS, name: "x"}) == value()


def test_the_order_of_the_headers_does_not_count() -> None:
    assert value(headers=dict(reversed(HEADERS.items()))) == value()


def test_place_and_predecessor_and_payload_count() -> None:
    others = [
        value(previous="1" * 64),
        value(subject="nix.log.flake.f2"),
        value(payload=b'{"path":"/srv" }'),
        value(payload=b""),
    ]

    assert len({value(), *others}) == 5


@given(
    st.lists(
        st.tuples(st.binary(max_size=8), st.from_regex(r"[a-zA-Z]{1,5}", fullmatch=True)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_two_events_never_read_alike(pair: list[tuple[bytes, str]]) -> None:
    one, other = (
        value(payload=payload, headers={**HEADERS, Header.CONTENT_TYPE: text})
        for payload, text in pair
    )

    assert one != other
