"""The chain check of one aggregate: whether any of its events was changed or removed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

from msgspec import Struct

from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import AUTHENTICATED_AS, Header, legal_value
from eventstore.messages.subjects import parse_log_subject
from eventstore.store.chain_links import GENESIS_LINKS, Link, Links, Problem, follow


class Witness(Struct, frozen=True):
    """An independent record of an event: its id, its type and its chain value if known."""

    id: str
    type: str
    chain: str | None


class ChainReport(Struct, frozen=True, kw_only=True):
    """The result of checking an aggregate's chain.

    `events` is how many were checked, the last one at `position` of the log. `problem` names the
    first event that is not as it was recorded; None if there is none. `complete` is whether all
    events were checked. `authenticated` has, by the id of each unchanged event with a witness, who
    sent its command according to the server, if that is recorded.
    """

    aggregate: str
    aggregate_id: str
    events: int
    position: int
    problem: str | None = None
    complete: bool = True
    authenticated: dict[str, str] = {}  # msgspec copies it

    @property
    def verified(self) -> bool:
        """Whether every event of the aggregate is as it was recorded."""
        return self.problem is None and self.complete


class ChainWalk:
    """Verifies an aggregate's chain after an event that is believed; `problem` is the first break.

    Proves that the events up to the last one added are complete, in order and unchanged; not that
    none after it was removed. `links` are what the next event may follow.
    """

    def __init__(self, after: Link = GENESIS_LINKS.head) -> None:
        self.version = after.version
        self.position = after.position
        self.problem: str | None = None
        self.links = Links(after)

    def add(self, message: StoredMessage) -> Problem | None:
        """Verify the next event; returns what is wrong with it."""
        self.version += 1
        self.position = message.sequence
        self.links, found, _ = follow(self.links, message)
        if self.problem is None and found is not None:
            self.problem = f"version {self.version} at position {self.position}: {found.text}"
        return found


async def check_chain(
    reader: DirectReader,
    subject: str,
    *,
    witnesses: Mapping[int, Witness] | None = None,
    max_events: int | None = None,
) -> ChainReport:
    """Check the chain of the aggregate whose events are on `subject`.

    `witnesses` are independent records of events, by position: an event that is missing or differs
    is a problem, which also detects a forged history. After `max_events` events it ends, and the
    report is not complete. Raises `StreamMissing` and `ClientError`.
    """
    aggregate, aggregate_id = parse_log_subject(subject)
    walk = ChainWalk()
    missing = dict(witnesses or {})
    complete = True
    authenticated: dict[str, str] = {}
    async with aclosing(reader.messages(subject)) as messages:
        async for message in messages:
            if max_events is not None and walk.version >= max_events:
                complete = False
                break
            walk.add(message)
            witness = missing.pop(message.sequence, None)
            if walk.problem is None and witness is not None:
                walk.problem = _difference(witness, message.headers, message.sequence)
            sender = legal_value(message.headers, AUTHENTICATED_AS)
            if walk.problem is None and witness is not None and sender is not None:
                authenticated[witness.id] = sender
    problem = walk.problem
    if problem is None and complete and missing:
        position, gone = min(missing.items())
        problem = f"{gone.type} {gone.id} is no longer at position {position}"
    return ChainReport(
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        events=walk.version,
        position=walk.position,
        problem=problem,
        complete=complete,
        authenticated=authenticated,
    )


def _difference(witness: Witness, headers: Mapping[str, str], position: int) -> str | None:
    found = Witness(
        headers.get(Header.EVENT_ID, ""),
        headers.get(Header.EVENT_TYPE, ""),
        headers.get(Header.CHAIN) if witness.chain is not None else None,
    )
    if found == witness:
        return None
    return (
        f"position {position} has {found.type} {found.id}, "
        f"but when it was indexed it was {witness.type} {witness.id}"
        + (" with another chain value" if found.id == witness.id else "")
    )
