"""Foreign messages: messages in the log that were not written by the store.

A message is foreign if its subject or its envelope is not the store's, or if its version and chain
value do not follow the aggregate's events before it. Readers skip it. If a later event was built
upon it, it is no forgery: then the aggregate's history is damaged, and the later events are
unreadable, because the original content of the changed event is unknown.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from eventstore.errors import InvalidHeader
from eventstore.jetstream.direct_get import DirectReader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header, legal_value
from eventstore.messages.text import make_log_records_safe
from eventstore.store.chain_links import GENESIS_LINKS, Link, LinkCheck, Links, follow, link_after
from eventstore.store.linked_reading import messages_before
from eventstore.telemetry import NO_TELEMETRY, Telemetry

MAX_HEADS = 50_000
"""Of how many aggregates a reader remembers the head, unless it is given another limit."""

_MAX_NAMED = 1_000
_MAX_WARNINGS = 100  # of a kind: a flood in the log must not flood the logging

_logger = make_log_records_safe(logging.getLogger(__name__))

FindingKind = Literal["foreign", "unreadable", "unpublished"]
"""Not written by the store; an event whose data this code cannot read; one that cannot be
published."""

FINDINGS: Mapping[FindingKind, str] = {
    "foreign": "foreign message",
    "unreadable": "unreadable event",
    "unpublished": "unpublished event",
}
"""The kinds of findings for people."""


class ForeignMessage(Struct, frozen=True, kw_only=True):
    """A message of the log that the store did not write, as stored, and the reason."""

    position: int
    subject: str
    reason: str
    headers: Mapping[str, str]
    payload: bytes

    @classmethod
    def of(cls, message: StoredMessage, reason: str) -> ForeignMessage:
        """A stored message that is foreign for this reason."""
        return cls(
            position=message.sequence,
            subject=message.subject,
            reason=reason,
            headers=message.headers,
            payload=message.payload,
        )


class LogFindings:
    """What the readers of a stream have skipped, of each kind.

    Each position counts once, however often it is read; the last 1,000 of each kind are
    remembered. Findings before a reader's first position are known only if they were restored.
    """

    def __init__(self, telemetry: Telemetry = NO_TELEMETRY) -> None:
        self._telemetry = telemetry
        self._found = {kind: OrderedDict[int, str]() for kind in FINDINGS}
        self._counts = dict.fromkeys(FINDINGS, 0)

    def note(self, kind: FindingKind, position: int, subject: str, reason: str) -> None:
        """Note a message, and log it, unless it is known already."""
        found = self._found[kind]
        if position in found or self._is_forgotten(kind, position):
            return
        if len(found) >= _MAX_NAMED:
            found.popitem(last=False)
        self._counts[kind] += 1
        found[position] = f"{subject}: {reason}"
        level = logging.WARNING if self._counts[kind] <= _MAX_WARNINGS else logging.DEBUG
        _logger.log(level, "%s at position %d (%s): %s", FINDINGS[kind], position, subject, reason)
        self._telemetry.count("log_findings", kind=kind)

    def restore(self, kind: FindingKind, count: int, found: Mapping[int, str]) -> None:
        """Restore the findings of an earlier process: their number, and the last of them."""
        known = self._found[kind]
        merged = {**found, **known}
        new = len(merged) - len(known)
        self._counts[kind] = max(self._counts[kind] + new, count)
        self._found[kind] = OrderedDict(sorted(merged.items())[-_MAX_NAMED:])

    def _is_forgotten(self, kind: FindingKind, position: int) -> bool:
        """Whether it was counted before, and is not remembered any more."""
        found = self._found[kind]
        return self._counts[kind] > len(found) > 0 and position < min(found)

    def count(self, kind: FindingKind) -> int:
        """How many messages of a kind were found."""
        return self._counts[kind]

    def by_position(self, kind: FindingKind) -> dict[int, str]:
        """The messages of a kind: subject and reason, by position."""
        return dict(sorted(self._found[kind].items()))


class Trails:
    """The heads of the aggregates at the position of a reader of the whole log, at most `limit`.

    `from_start` means that it reads from the log's beginning, so that an unknown aggregate has no
    events yet. Else the last event of an unknown aggregate is requested, for all of a page
    together, and trusted if the next one follows it; if not, all of the aggregate is read.
    """

    def __init__(self, reader: DirectReader, *, from_start: bool, limit: int = MAX_HEADS) -> None:
        self._reader = reader
        self._limit = limit
        self._knows_all = from_start
        self._known: OrderedDict[str, Links] = OrderedDict()

    async def prepare(self, messages: Sequence[StoredMessage]) -> None:
        """Load the heads that a page needs; raises a `ClientError`."""
        while len(self._known) > self._limit:
            self._known.popitem(last=False)
            self._knows_all = False
        if self._knows_all or not messages:
            return
        first: dict[str, StoredMessage] = {}
        for message in messages:
            if message.subject not in self._known:
                first.setdefault(message.subject, message)
        before = messages[0].sequence - 1
        if not first or not before:
            return
        found = await messages_before(self._reader, list(first.values()), before)
        heads = {subject: link_of(message) for subject, message in found.items()}
        for subject, message in first.items():
            head = heads.get(subject, GENESIS_LINKS.head)
            if head is not None and link_after(head, message):
                self._known[subject] = Links(head)
            else:
                self._known[subject] = await _trace_links(self._reader, subject, before)

    def follow(self, message: StoredMessage) -> LinkCheck:
        """What the next message follows, if anything."""
        subject = message.subject
        links = self._known.get(subject, GENESIS_LINKS)
        followed = follow(links, message)
        self._known[subject] = followed.links
        self._known.move_to_end(subject)
        return followed

    def head_of(self, subject: str) -> Link:
        """The aggregate's last event so far."""
        return self._known.get(subject, GENESIS_LINKS).head

    def move(self, message: StoredMessage, head: Link) -> None:
        """Note that a message follows the head, and is the aggregate's last event now."""
        subject, known = message.subject, self._known
        known[subject] = known.get(subject, GENESIS_LINKS).after(head)
        known.move_to_end(subject)


async def _trace_links(reader: DirectReader, subject: str, until: int) -> Links:
    """The links of an aggregate, from its first event on, up to a position."""
    links = GENESIS_LINKS
    async for message in reader.messages(subject):
        if message.sequence > until:
            break
        links = follow(links, message).links
    return links


def link_of(message: StoredMessage) -> Link | None:
    """The link of an event; None if its version or chain value is not legal."""
    version = legal_value(message.headers, Header.AGGREGATE_VERSION)
    chain = legal_value(message.headers, Header.CHAIN)
    if version is None or chain is None:
        return None
    return Link(int(version), chain, message.sequence)


def damaged(head: Link, confirmed: Link) -> InvalidHeader:
    """Why an event that was built upon one that does not follow cannot be read."""
    return InvalidHeader(
        Header.CHAIN,
        f"goes back to position {confirmed.position}, and the message there does not follow "
        f"version {head.version}: it was changed, or something before it is missing",
    )
