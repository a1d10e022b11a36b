"""The chain check names the first event that is not as it was recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from eventstore.audit.chain_check import ChainWalk
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.envelope import Envelope, Identity, derive_id
from eventstore.messages.headers import Header

SUBJECT = "t.log.counter.c"
ROOT = Identity.root("00000000-0000-4000-8000-000000000000")

Message = tuple[dict[str, str], bytes]


def recorded(count: int) -> list[Message]:
    chain, found = GENESIS, []
    for version in range(1, count + 1):
        envelope = Envelope(
            identity=Identity.caused_by(ROOT, derive_id(ROOT.id, str(version))),
            type="Counted",
            domain="t",
            timestamp="2026-01-01T00:00:00.000000Z",
            aggregate_id="c",
            version=version,
        )
        headers = envelope.to_headers()
        payload = b'{"by":%d}' % version
        chain = chain_value(chain, SUBJECT, headers, payload)
        found.append((headers | {Header.CHAIN: chain}, payload))
    return found


def problem_of(messages: list[Message]) -> str | None:
    walk = ChainWalk()
    for position, (headers, payload) in enumerate(messages, 11):
        walk.add(StoredMessage(SUBJECT, position, headers, payload))
    return walk.problem


def _other_payload(messages: list[Message]) -> None:
    messages[2] = (messages[2][0], b'{"by":300}')


def _other_header(messages: list[Message]) -> None:
    messages[2][0][Header.ACTOR] = "mallory"


def _without_value(messages: list[Message]) -> None:
    del messages[2][0][Header.CHAIN]


def _removed(messages: list[Message]) -> None:
    del messages[2]


def _swapped(messages: list[Message]) -> None:
    messages[2], messages[3] = messages[3], messages[2]


def _put_in_again(messages: list[Message]) -> None:
    messages.insert(2, messages[1])


def _renumbered(messages: list[Message]) -> None:
    """Removed, and those after it renumbered."""
    del messages[2]
    for version, (headers, _) in enumerate(messages, 1):
        headers[Header.AGGREGATE_VERSION] = str(version)


def test_an_unchanged_chain_has_no_problem() -> None:
    assert problem_of(recorded(5)) is None
    assert problem_of([]) is None


@pytest.mark.parametrize(
    "touch",
    [
        _other_payload,
        _other_header,
        _without_value,
        _removed,
        _swapped,
        _put_in_again,
        _renumbered,
    ],
)
def test_the_first_event_that_is_not_as_it_was_is_named(
    touch: Callable[[list[Message]], None],
) -> None:
    messages = recorded(5)
    touch(messages)

    problem = problem_of(messages)

    assert problem is not None
    assert problem.startswith("version 3 at position 13: ")
