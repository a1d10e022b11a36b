"""One aggregate's events, one after another: whether each follows from the one before it.

What does not follow was forged or changed. The head stays where the last event that follows is, so
that the store's own next event, which follows on it, is not accused of what stands between. Whether
a later event was built upon what does not follow tells a changed event from a forged one, so what
stands there is remembered as a guess.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from eventstore.client.protocol import UnreadableHeaders, check_headers
from eventstore.errors import InvalidHeader
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.chain import GENESIS, chain_value
from eventstore.messages.envelope import Envelope, Header
from eventstore.messages.subjects import parse_log_subject

__all__ = ["GENESIS_LINKS", "Followed", "Link", "Links", "Problem", "extends", "follow"]

_CHAIN = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_MOST_GUESSES = 4
_OWN = (Header.EVENT_ID, Header.EVENT_TYPE, Header.AGGREGATE_VERSION, Header.CHAIN)

ProblemKind = Literal[
    "foreign", "header", "wrong_aggregate", "out_of_order", "changed", "version_gap", "missing"
]


class Link(NamedTuple):
    """An event that the next may follow: its version, chain value and position (0: not known).

    The position of a guess is that of the event which did not follow, from which it all began.
    """

    version: int
    chain: str
    position: int = 0


class Links(NamedTuple):
    """The head, and the guesses: what else a later event may have been built upon."""

    head: Link
    guesses: tuple[Link, ...] = ()

    @property
    def latest(self) -> Link:
        """What stands last, if it is what it says."""
        return self.guesses[0] if self.guesses else self.head

    def after(self, head: Link) -> Links:
        """The next event follows on the head; it replaces the guesses about its version."""
        if not self.guesses:
            return Links(head)
        return Links(head, tuple(each for each in self.guesses if each.version > head.version))

    def guessing(self, *guesses: Link) -> Links:
        """The next event may also have been built upon these."""
        return Links(self.head, (*guesses, *self.guesses)[:_MOST_GUESSES])


GENESIS_LINKS = Links(Link(0, GENESIS))


class Problem(NamedTuple):
    """Why an event does not follow."""

    kind: ProblemKind
    text: str


class Followed(NamedTuple):
    """What the next event may follow, and what is wrong with this one.

    `confirmed` is the guess that this event was built upon, None where it follows on the head.
    """

    links: Links
    problem: Problem | None = None
    confirmed: Link | None = None


def extends(head: Link, message: StoredMessage) -> bool:
    """Whether a message has the next version and chain value; its envelope is not looked at."""
    headers = message.headers
    is_next = headers.get(Header.AGGREGATE_VERSION) == str(head.version + 1)
    if not is_next or isinstance(headers, UnreadableHeaders):
        return False
    stored = headers.get(Header.CHAIN)
    return stored == chain_value(head.chain, message.subject, headers, message.payload)


def follow(links: Links, message: StoredMessage) -> Followed:
    """Check the aggregate's next message; raises `InvalidSubject` for one of no log."""
    headers = message.headers
    if not any(name in headers for name in _OWN):
        return Followed(links, Problem("foreign", "it has no envelope: the store did not write it"))
    try:
        check_headers(headers)
        envelope = Envelope.from_headers(headers)
        version, stored = _complete(envelope)
    except InvalidHeader as error:
        return Followed(_after_bad_header(links, message), Problem("header", str(error)))
    own = Link(version, stored, message.sequence)
    _, aggregate_id = parse_log_subject(message.subject)
    if envelope.aggregate_id != aggregate_id:
        found = Problem(
            "wrong_aggregate",
            f"it is an event of {envelope.aggregate_id}, as its header says, and stands under "
            f"the subject of {aggregate_id}",
        )
        # Changed in place, or brought here from elsewhere: the next event tells.
        is_next = version == links.latest.version + 1
        return Followed(links.guessing(own) if is_next else links, found)
    if extends(links.head, message):
        return Followed(links.after(own))
    for guess in links.guesses:
        if extends(guess, message):
            return Followed(links.guessing(own._replace(position=guess.position)), None, guess)
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


def _explain(links: Links, own: Link, computed: str) -> Followed:
    last, version = links.latest.version, own.version
    if version <= last:
        text = f"version {version} stands after version {last}"
        return Followed(links, Problem("out_of_order", text))
    after = links.guessing(*_either(own, computed))
    if version == last + 1:
        return Followed(after, Problem("changed", _changed(version, own.chain, computed)))
    expected = f"version {last + 1} was expected, version {version} stands here"
    if own.chain == computed:
        return Followed(after, Problem("version_gap", f"{expected}, yet the chain goes on"))
    text = f"{expected}: what is between is missing, or stands later"
    return Followed(after, Problem("missing", text))


def _changed(version: int, stored: str, computed: str) -> str:
    before = "the chain's beginning" if version == 1 else f"version {version - 1}"
    return (
        f"from {before} and what stands here follows the chain value {computed[:16]}…, "
        f"but {stored[:16]}… is stored: it was changed, or does not belong here"
    )


def _after_bad_header(links: Links, message: StoredMessage) -> Links:
    latest = links.latest
    stored = message.headers.get(Header.CHAIN, "")
    version = message.headers.get(Header.AGGREGATE_VERSION, "")
    computed = chain_value(latest.chain, message.subject, message.headers, message.payload)
    number = int(version) if _VERSION.fullmatch(version) else 0
    own = Link(max(number, latest.version + 1), stored, message.sequence)
    return links.guessing(*_either(own, computed))


def _either(own: Link, computed: str) -> tuple[Link, ...]:
    """The next event tells whether this one or only its chain value was changed."""
    other = own._replace(chain=computed)
    return (own, other) if _CHAIN.fullmatch(own.chain) else (other,)
