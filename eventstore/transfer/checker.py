"""Checks that the lines of a file are the store's events, and that they can be sent unchanged."""

from __future__ import annotations

import re

import msgspec

from eventstore.audit.working_set import AggregateState, WorkingSet
from eventstore.client.protocol import header_block, read_headers
from eventstore.errors import InvalidHeader
from eventstore.jetstream.publish import MAX_HEADERS
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.jetstream.vocabulary import EXPECTED_HEADERS, SERVER_HEADERS, NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.store.chain_links import LinkCheck
from eventstore.transfer.file_format import EventLine

_EXPECTED_BYTES = 64
# The headers that the server acts on and the store writes.
_SERVER_HEADER_RULES = {
    NatsHeader.MESSAGE_ID: re.compile(".+"),
    NatsHeader.BATCH_ID: re.compile(".{1,64}"),
    NatsHeader.BATCH_SEQUENCE: re.compile("[1-9][0-9]{0,3}"),
    NatsHeader.BATCH_COMMIT: re.compile("1"),
}

_MAX_CACHED = 10_000


class LineChains:
    """Follows the chains of all aggregates in a file, line by line, in bounded memory."""

    def __init__(self, subjects: Subjects, seen: WorkingSet) -> None:
        self._subjects = subjects
        self._seen = seen
        self._known: dict[str, AggregateState] = {}

    def follow(self, event: EventLine) -> LinkCheck:
        """Check the next line against its aggregate's chain."""
        message = StoredMessage(event.subject, event.position, event.headers, event.payload)
        return self._aggregate(event.subject).follow(message, self._subjects)

    def _aggregate(self, subject: str) -> AggregateState:
        if subject not in self._known:
            if len(self._known) >= _MAX_CACHED:
                self._seen.store(self._known)
                self._known.clear()
            self._known |= self._seen.aggregates([subject])
        return self._known[subject]


def unsendable(headers: dict[str, str]) -> list[str]:
    """The names of headers with which a message would be refused, or stored differently.

    All of them if they are too large together.
    """
    if _is_sendable(headers):
        return []
    return [name for name in headers if not _is_sendable({name: headers[name]})] or list(headers)


def without_headers(event: EventLine, names: list[str]) -> EventLine:
    """The event without these headers."""
    kept = {name: value for name, value in event.headers.items() if name not in names}
    return msgspec.structs.replace(event, headers=kept)


def _is_sendable(headers: dict[str, str]) -> bool:
    sent = {name: value for name, value in headers.items() if not name.startswith(EXPECTED_HEADERS)}
    for name, value in sent.items():
        if name.startswith(SERVER_HEADERS):
            rule = _SERVER_HEADER_RULES.get(name)
            if rule is None or not rule.fullmatch(value):
                return False
    try:
        block = header_block(sent)
    except (InvalidHeader, UnicodeEncodeError):
        return False
    return len(block) <= MAX_HEADERS - _EXPECTED_BYTES and read_headers(block) == sent
