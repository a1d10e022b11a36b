"""Whether the lines of a file are the store's events, and whether they can be sent as they are."""

from __future__ import annotations

import re

import msgspec

from eventstore.audit.working_set import Aggregate, WorkingSet
from eventstore.client.protocol import header_block, read_headers
from eventstore.errors import InvalidHeader, InvalidSubject
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.jetstream.publish import MAX_HEADERS
from eventstore.jetstream.vocabulary import EXPECTED_HEADERS, SERVER_HEADERS, NatsHeader
from eventstore.messages.subjects import Subjects
from eventstore.store.chain_links import Followed, Problem, follow
from eventstore.transfer.file_format import EventLine

__all__ = ["LineChains", "unsendable", "without"]

_EXPECTED_ROOM = 64
# Of the headers that the server acts on, those that the store writes.
_ACTED_ON = {
    NatsHeader.MESSAGE_ID: re.compile(".+"),
    NatsHeader.BATCH_ID: re.compile(".{1,64}"),
    NatsHeader.BATCH_SEQUENCE: re.compile("[1-9][0-9]{0,3}"),
    NatsHeader.BATCH_COMMIT: re.compile("1"),
}

_MOST_AT_HAND = 10_000


class LineChains:
    """Follows the chains of all aggregates in a file, line by line, in bounded memory."""

    def __init__(self, subjects: Subjects, seen: WorkingSet) -> None:
        self._subjects = subjects
        self._seen = seen
        self._known: dict[str, Aggregate] = {}

    def follow(self, event: EventLine) -> Followed:
        """What the next line follows on, and what is wrong with it."""
        aggregate = self._aggregate(event.subject)
        try:
            self._subjects.parse_log(event.subject)
        except InvalidSubject as error:
            return Followed(aggregate.links, Problem("foreign", str(error)))
        message = StoredMessage(event.subject, event.position, event.headers, event.payload)
        followed = follow(aggregate.links, message)
        aggregate.links = followed.links
        return followed

    def _aggregate(self, subject: str) -> Aggregate:
        if subject not in self._known:
            if len(self._known) >= _MOST_AT_HAND:
                self._seen.keep(self._known)
                self._known.clear()
            self._known |= self._seen.aggregates([subject])
        return self._known[subject]


def unsendable(headers: dict[str, str]) -> list[str]:
    """The names of the headers with which a message would be refused, or not stand as it is.

    All of them where they are too large together.
    """
    if _is_sendable(headers):
        return []
    return [name for name in headers if not _is_sendable({name: headers[name]})] or list(headers)


def without(event: EventLine, names: list[str]) -> EventLine:
    """The event without these headers."""
    left = {name: value for name, value in event.headers.items() if name not in names}
    return msgspec.structs.replace(event, headers=left)


def _is_sendable(headers: dict[str, str]) -> bool:
    sent = {name: value for name, value in headers.items() if not name.startswith(EXPECTED_HEADERS)}
    for name, value in sent.items():
        if name.startswith(SERVER_HEADERS):
            rule = _ACTED_ON.get(name)
            if rule is None or not rule.fullmatch(value):
                return False
    try:
        block = header_block(sent)
    except (InvalidHeader, UnicodeEncodeError):
        return False
    return len(block) <= MAX_HEADERS - _EXPECTED_ROOM and read_headers(block) == sent
