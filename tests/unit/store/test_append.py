"""What an append is made of: ids fixed before the first try, versions and chains after the base."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from eventstore.errors import InvalidHeader, InvalidId, InvalidMessage, UnknownType, UnreadableEvent
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import Identity, derive_id
from eventstore.messages.events import NewEvent
from eventstore.messages.headers import Header
from eventstore.messages.types import Event
from eventstore.store.append import ANY, Append
from eventstore.store.head import NOTHING, FoundHead, Head
from eventstore.store.pending_append import PendingAppend

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


class Opened(Event, subject="account.opened"):
    pass


class Noted(Event, subject="journal.noted"):
    pass


CODEC = Codec("bank", (), (Opened, Noted))


def write(*events: Event | NewEvent, **options: Any) -> PendingAppend:
    append = Append(aggregate="account", aggregate_id="a1", events=events, **options)
    return PendingAppend(append, CODEC, NOW)


def test_the_ids_are_the_same_on_every_try() -> None:
    one = write(Opened(), Opened())
    assert one.event_ids == tuple(draft.headers[Header.EVENT_ID] for draft in one.drafts())
    assert [draft.headers for draft in one.drafts()] == [draft.headers for draft in one.drafts()]


def test_ids_that_follow_from_a_cause_are_the_same_for_ever() -> None:
    cause = Identity.root("00000000-0000-4000-8000-000000000001")
    ids = write(Opened(), Opened(), cause=cause).event_ids
    assert ids == tuple(derive_id(cause.id, f"account.a1.{index}") for index in range(2))
    assert write(Opened(), Opened(), cause=cause).event_ids == ids
    headers = write(Opened(), cause=cause).drafts()[0].headers
    assert headers[Header.CAUSATION_ID] == cause.id
    assert headers[Header.CORRELATION_ID] == cause.correlation_id


def test_events_without_a_cause_are_roots_with_new_ids() -> None:
    one = write(Opened())
    headers = one.drafts()[0].headers
    own = one.event_ids[0]
    assert headers[Header.CAUSATION_ID] == headers[Header.CORRELATION_ID] == own
    assert write(Opened()).event_ids != one.event_ids


def test_only_ids_of_the_callers_own_may_have_been_sent_before() -> None:
    assert not write(Opened(), NewEvent(data=Opened())).may_be_repeat
    assert write(Opened(), NewEvent(data=Opened(), identity=Identity.root())).may_be_repeat
    assert write(Opened(), cause=Identity.root()).may_be_repeat


def test_versions_and_chains_go_on_from_the_base() -> None:
    one = write(Opened(), Opened())
    one.base = Head(10, 4, "a" * 64, "")
    first, second = one.drafts()
    assert [d.headers[Header.AGGREGATE_VERSION] for d in (first, second)] == ["5", "6"]
    value = chain_value("a" * 64, "bank.log.account.a1", first.headers, first.payload)
    assert first.headers[Header.CHAIN] == value
    assert second.headers[Header.CHAIN] == chain_value(
        value, second.subject, second.headers, second.payload
    )
    one.base = NOTHING
    again = one.drafts()[0]
    assert again.headers[Header.AGGREGATE_VERSION] == "1"
    assert again.headers[Header.CHAIN] == chain_value(
        GENESIS, again.subject, again.headers, again.payload
    )


def test_an_events_own_time_and_actor_win() -> None:
    own = NewEvent(data=Opened(), timestamp=datetime(2020, 1, 1, tzinfo=UTC), actor="eve")
    first, second = write(own, Opened(), actor="ann").drafts()
    assert first.headers[Header.TIMESTAMP] == "2020-01-01T00:00:00.000000Z"
    assert second.headers[Header.TIMESTAMP] == "2026-01-02T03:04:05.000006Z"
    assert (first.headers[Header.ACTOR], second.headers[Header.ACTOR]) == ("eve", "ann")


class Stranger(Event, subject="account.stranger"):
    pass


def test_what_may_not_be_in_the_log_is_refused() -> None:
    with pytest.raises(InvalidMessage, match="no events"):
        write()
    with pytest.raises(InvalidMessage, match="Noted is not an event of account"):
        write(Noted())
    with pytest.raises(UnknownType, match="Stranger"):
        write(Stranger())
    event = NewEvent(data=Opened(), identity=Identity.root())
    with pytest.raises(InvalidId, match="an id repeats"):
        write(event, event)
    with pytest.raises(InvalidId):
        PendingAppend(
            Append(aggregate="account", aggregate_id="a.1", events=[Opened()]), CODEC, NOW
        )


class _Hidden(Event, subject="account.hidden"):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {"actor": ""},
        {"actor": "line\nbreak"},
        {"authenticated_as": ""},
        {"command_digest": "nonsense"},
        {"traceparent": "00"},
        {"cause": Identity("00000000-0000-4000-8000-000000000001", "x", "x")},
    ],
    ids=str,
)
def test_what_an_append_has_from_its_caller_is_checked(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidHeader):
        write(Opened(), **options)
    with pytest.raises(InvalidHeader):
        write(NewEvent(data=Opened(), identity=Identity.root()), Opened(), **options)


@pytest.mark.parametrize(
    "own",
    [
        {"identity": Identity("x", "x", "x")},
        {"identity": Identity(*(f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 1, 2)))},
        {"traceparent": "00"},
        {"timestamp": datetime(2026, 1, 1)},
    ],
    ids=str,
)
def test_what_an_event_has_of_its_own_is_checked(own: dict[str, Any]) -> None:
    with pytest.raises(InvalidHeader):
        write(Opened(), NewEvent(data=Opened(), **own))


def test_what_one_event_has_of_its_own_the_next_one_has_not() -> None:
    own = NewEvent(data=Opened(), actor="eve", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    one, two, three = (draft.headers for draft in write(Opened(), own, Opened()).drafts())
    assert one.keys() - {"Nats-Expected-Last-Subject-Sequence"} == three.keys()
    assert two.keys() - three.keys() == {Header.ACTOR, Header.TRACEPARENT}


def test_an_id_derived_from_itself_is_refused_at_any_index() -> None:
    own = "00000000-0000-4000-8000-000000000001"
    cause = Identity(own, derive_id(own, "account.a1.1"), own)
    write(Opened(), cause=cause)
    with pytest.raises(InvalidHeader, match="disagree"):
        write(Opened(), Opened(), cause=cause)


def test_a_class_whose_name_may_not_be_in_a_header_is_refused() -> None:
    codec = Codec("bank", (), (_Hidden,))
    append = Append(aggregate="account", aggregate_id="a1", events=[_Hidden()])
    for _ in range(2):
        with pytest.raises(InvalidHeader, match="'_Hidden', not a type's name"):
            PendingAppend(append, codec, NOW)


def test_the_first_event_is_guarded_and_each_has_its_lines_of_the_batch() -> None:
    one = write(Opened(), Opened())
    one.begin_at(FoundHead(Head(10, 4, "a" * 64, ""), 12))
    first, second = (draft.headers for draft in one.drafts(["A: 1\r\n", "A: 2\r\n"]))
    assert (first["A"], second["A"]) == ("1", "2")
    assert first["Nats-Expected-Last-Subject-Sequence"] == "12"
    assert "Nats-Expected-Last-Subject-Sequence" not in second


@pytest.mark.parametrize("missing", [Header.AGGREGATE_VERSION, Header.CHAIN, Header.EVENT_ID])
def test_a_head_without_version_chain_or_id_is_unreadable(missing: str) -> None:
    (draft,) = write(Opened()).drafts()
    head = Head.of(StoredMessage(draft.subject, 7, dict(draft.headers), b""))
    assert (head.position, head.version) == (7, 1)
    headers = dict(draft.headers)
    del headers[missing]
    with pytest.raises(UnreadableEvent) as unreadable:
        Head.of(StoredMessage(draft.subject, 7, headers, b""))
    assert unreadable.value.position == 7


def test_an_append_expects_any_version_by_default() -> None:
    assert Append(aggregate="account", aggregate_id="a1", events=[Opened()]).expected is ANY
