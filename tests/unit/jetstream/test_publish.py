"""Guards, batches, and sizes of an append on the wire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.client.protocol import header_block
from eventstore.errors import BatchTooLarge, EventTooLarge
from eventstore.jetstream.publish import MAX_BATCH, MAX_HEADERS, Draft, check_sizes, guarded

EXPECTED = "Nats-Expected-Last-Subject-Sequence"


def draft(subject: str = "d.log.a.1", payload: bytes = b"{}", **headers: str) -> Draft:
    return Draft.of(subject, headers, payload, "Happened")


def test_one_message_is_guarded_without_a_batch() -> None:
    (message,) = guarded([draft(Own="x")], {"d.log.a.1": 7})
    assert message.headers == {"Own": "x", EXPECTED: "7"}


def test_a_batch_is_numbered_committed_and_guarded_once_per_subject() -> None:
    drafts = [draft("s.1"), draft("s.1"), draft("s.2"), draft("s.2")]
    messages = guarded(drafts, {"s.1": 0, "s.2": 9})
    headers = [message.headers for message in messages]
    assert [each["Nats-Batch-Sequence"] for each in headers] == ["1", "2", "3", "4"]
    assert [each.get("Nats-Batch-Commit") for each in headers] == [None, None, None, "1"]
    assert [each.get(EXPECTED) for each in headers] == ["0", None, "9", None]
    assert len({each["Nats-Batch-Id"] for each in headers}) == 1
    assert all(not each.headers for each in drafts)


def test_every_attempt_has_its_own_batch_id() -> None:
    tries = [guarded([draft(), draft()], {}) for _ in range(2)]
    first, second = (messages[0].headers["Nats-Batch-Id"] for messages in tries)
    assert first != second
    assert len(first) <= 64


HEADERS = st.dictionaries(
    st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True),
    st.text(st.characters(exclude_characters="\r\n", codec="utf-8")),
    min_size=1,
)


@given(headers=HEADERS, payload=st.binary(max_size=50))
def test_the_size_is_exactly_that_on_the_wire(headers: dict[str, str], payload: bytes) -> None:
    size = len(header_block(headers)) + len(payload)
    message = Draft.of("s", headers, payload, "Happened")
    check_sizes([message], size)
    with pytest.raises(EventTooLarge) as refusal:
        check_sizes([message], size - 1)
    assert (refusal.value.size, refusal.value.limit) == (size, size - 1)
    assert (refusal.value.event_type, refusal.value.part) == ("Happened", "headers and payload")


def test_headers_have_a_limit_of_their_own() -> None:
    rest = len(header_block({"Long": ""}))
    check_sizes([draft(Long="x" * (MAX_HEADERS - rest))], 10_000_000)
    with pytest.raises(EventTooLarge) as refusal:
        check_sizes([draft(), draft(Long="x" * (MAX_HEADERS - rest + 1))], 10_000_000)
    assert (refusal.value.part, refusal.value.size) == ("headers", MAX_HEADERS + 1)
    assert refusal.value.limit == MAX_HEADERS


def test_a_batch_has_a_limit_of_events() -> None:
    check_sizes([draft()] * MAX_BATCH, 1_000)
    with pytest.raises(BatchTooLarge) as refusal:
        check_sizes([draft()] * (MAX_BATCH + 1), 1_000)
    assert (refusal.value.count, refusal.value.limit) == (MAX_BATCH + 1, MAX_BATCH)
