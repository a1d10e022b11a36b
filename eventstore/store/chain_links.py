"""The links of an aggregate's chain: whether each event follows the one before it.

An event that does not follow was forged or changed. The head stays at the last event that follows,
so that the store's own next event, which follows it, is not blamed for messages between them. A
changed event differs from a forged one in that later events were built upon it, so each event that
does not follow is remembered as a guess.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from eventstore.client.protocol import UnreadableHeaders, check_headers
from eventstore.errors import InvalidHeader
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.chain import GENESIS, chain_value, value_of_event
from eventstore.messages.envelope import Envelope, EventHeaders
from eventstore.messages.headers import Header
from eventstore.messages.subjects import parse_log_subject

_CHAIN = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_MAX_GUESSES = 4
_OWN = frozenset((Header.EVENT_ID, Header.EVENT_TYPE, Header.AGGREGATE_VERSION, Header.CHAIN))

ProblemKind = Literal[
    "foreign", "header", "wrong_aggregate", "out_of_order", "changed", "version_gap", "missing"
]


class Link(Struct, frozen=True, array_like=True, gc=False):
    """An event that the next may follow: its version, chain value and position (0: not known).

    The position of a guess is that of the first event that did not follow.
    """

    version: int
    chain: str
    position: int = 0


class Links(Struct, frozen=True, array_like=True):
    """The head, and the guesses: other links that a later event may have been built upon."""

    head: Link
    guesses: tuple[Link, ...] = ()

    @property
    def latest(self) -> Link:
        """The last link, if the latest guess is right."""
        return self.guesses[0] if self.guesses else self.head

    def after(self, head: Link) -> Links:
        """The links after an event that follows the head; drops guesses about its version."""
        if not self.guesses:
            return Links(head)
        return Links(head, tuple(each for each in self.guesses if each.version > head.version))

    def guessing(self, *guesses: Link) -> Links:
        """The links with further guesses."""
        return Links(self.head, (*guesses, *self.guesses)[:_MAX_GUESSES])


GENESIS_LINKS = Links(Link(0, GENESIS))


class Problem(NamedTuple):
    """Why an event does not follow."""

    kind: ProblemKind
    text: str


class LinkCheck(NamedTuple):
    """The links that the next event may follow, and the problem of this one.

    `confirmed` is the guess that this event was built upon, None if it follows the head.
    """

    links: Links
    problem: Problem | None = None
    confirmed: Link | None = None


def link_after(head: Link, message: StoredMessage) -> Link | None:
    """The link of a message with the next version and chain value; None for any other.

    Ignores the rest of its envelope.
    """
    headers, version = message.headers, head.version + 1
    if isinstance(headers, EventHeaders):
        known = headers.envelope
        if known.version != version:
            return None
        value, stored = (
            value_of_event(head.chain, message.subject, known, message.payload),
            known.chain,
        )
    else:
        is_next = headers.get(Header.AGGREGATE_VERSION) == str(version)
        if not is_next or isinstance(headers, UnreadableHeaders):
            return None
        value = chain_value(head.chain, message.subject, headers, message.payload)
        stored = headers.get(Header.CHAIN)
    return Link(version, value, message.sequence) if value == stored else None


def follow(links: Links, message: StoredMessage) -> LinkCheck:
    """Check the aggregate's next message; raises `InvalidSubject` for one of no log."""
    headers = message.headers
    if _OWN.isdisjoint(headers):
        return LinkCheck(
            links, Problem("foreign", "it has no envelope: the store did not write it")
        )
    try:
        check_headers(headers)
        envelope = Envelope.from_headers(headers)
        version, stored = _complete(envelope)
    except InvalidHeader as error:
        return LinkCheck(_after_bad_header(links, message), Problem("header", str(error)))
    own = Link(version, stored, message.sequence)
    _, aggregate_id = parse_log_subject(message.subject)
    if envelope.aggregate_id != aggregate_id:
        found = Problem(
            "wrong_aggregate",
            f"it is an event of {envelope.aggregate_id}, as its header says, on the subject of "
            f"{aggregate_id}",
        )
        # Changed in place, or moved here from elsewhere: the next event shows which.
        is_next = version == links.latest.version + 1
        return LinkCheck(links.guessing(own) if is_next else links, found)
    if link_after(links.head, message):
        return LinkCheck(links.after(own))
    for guess in links.guesses:
        if link_after(guess, message):
            return LinkCheck(links.guessing(replace(own, position=guess.position)), None, guess)
    computed = chain_value(links.latest.chain, message.subject, headers, message.payload)
    return _explain(links, own, computed)


def _complete(envelope: Envelope) -> tuple[int, str]:
    if envelope.aggregate_id is None:
        raise InvalidHeader(Header.AGGREGATE_ID, "is missing")
    if envelope.version is None:
        raise InvalidHeader(Header.AGGREGATE_VERSION, "is missing")
    if envelope.chain is None:
        raise InvalidHeader(Header.CHAIN, "is missing")
    return envelope.version, envelope.chain


def _explain(links: Links, own: Link, computed: str) -> LinkCheck:
    last, version = links.latest.version, own.version
    if version <= last:
        text = f"version {version} comes after version {last}"
        return LinkCheck(links, Problem("out_of_order", text))
    after = links.guessing(*_either(own, computed))
    if version == last + 1:
        before = "the chain's beginning" if version == 1 else f"version {last}"
        text = (
            f"from {before} and this event follows the chain value {computed[:16]}…, "
            f"but {own.chain[:16]}… is stored: it was changed, or does not belong here"
        )
        return LinkCheck(after, Problem("changed", text))
    expected = f"version {last + 1} was expected, version {version} is here"
    if own.chain == computed:
        return LinkCheck(after, Problem("version_gap", f"{expected}, yet the chain goes on"))
    text = f"{expected}: events between are missing, or come later"
    return LinkCheck(after, Problem("missing", text))


def _after_bad_header(links: Links, message: StoredMessage) -> Links:
    latest = links.latest
    stored = message.headers.get(Header.CHAIN, "")
    version = message.headers.get(Header.AGGREGATE_VERSION, "")
    computed = chain_value(latest.chain, message.subject, message.headers, message.payload)
    number = int(version) if _VERSION.fullmatch(version) else 0
    own = Link(max(number, latest.version + 1), stored, message.sequence)
    return links.guessing(*_either(own, computed))


def _either(own: Link, computed: str) -> tuple[Link, ...]:
    """Both guesses, as the next event shows whether this one or only its chain was changed."""
    other = replace(own, chain=computed)
    return (own, other) if _CHAIN.fullmatch(own.chain) else (other,)
