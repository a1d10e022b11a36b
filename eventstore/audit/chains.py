"""One aggregate's events, one after another: whether each follows from the one before it.

After an event that does not, checking goes on with whatever the next one may rightly follow from,
so that one changed event is one finding and not the end of the aggregate.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from eventstore.audit.finding import Kind
from eventstore.chain import GENESIS, chain_value
from eventstore.direct import StoredMessage
from eventstore.envelope import Envelope, Header
from eventstore.errors import InvalidHeader

__all__ = ["GENESIS_LINKS", "Link", "Links", "Problem", "follow"]

_CHAIN = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_MOST_LINKS = 4


class Link(NamedTuple):
    """An event that the next may follow: its version and chain value."""

    version: int
    chain: str


Links = tuple[Link, ...]
"""What the next event may follow: one link where all is well, else several guesses."""

GENESIS_LINKS: Links = (Link(0, GENESIS),)


class Problem(NamedTuple):
    """Why an event does not follow."""

    kind: Kind
    text: str


def follow(links: Links, message: StoredMessage, aggregate_id: str) -> tuple[Links, Problem | None]:
    """Check the aggregate's next event; what the one after it may follow, and what is wrong."""
    headers = message.headers
    try:
        envelope = Envelope.from_headers(headers)
        version, stored = _complete(envelope)
    except InvalidHeader as error:
        return _after_bad_header(links, message), Problem("header", str(error))
    if envelope.aggregate_id != aggregate_id:
        found = Problem(
            "wrong_aggregate",
            f"it is an event of {envelope.aggregate_id}, as its header says, and stands under "
            f"the subject of {aggregate_id}",
        )
        # Changed in place, or brought here from elsewhere: the next event tells.
        in_place = (Link(version, stored),) if version == links[0].version + 1 else ()
        return (*links, *in_place)[:_MOST_LINKS], found
    computed = [
        chain_value(link.chain, message.subject, headers, message.payload) for link in links
    ]
    for link, value in zip(links, computed, strict=True):
        if value == stored and version == link.version + 1:
            return (Link(version, stored),), None
    return _explain(links, version, stored, computed[0])


def _complete(envelope: Envelope) -> tuple[int, str]:
    if envelope.aggregate_id is None:
        raise InvalidHeader(Header.AGGREGATE_ID, "is missing")
    if envelope.version is None:
        raise InvalidHeader(Header.AGGREGATE_VERSION, "is missing")
    if envelope.chain is None:
        raise InvalidHeader(Header.CHAIN, "is missing")
    return envelope.version, envelope.chain


def _explain(
    links: Links, version: int, stored: str, computed: str
) -> tuple[Links, Problem | None]:
    last = links[0].version
    after = _either(version, stored, computed)
    if version <= last:
        return links, Problem("out_of_order", f"version {version} stands after version {last}")
    if version == last + 1:
        return after, Problem("changed", _changed(version, stored, computed))
    expected = f"version {last + 1} was expected, version {version} stands here"
    if stored == computed:
        return after, Problem("version_gap", f"{expected}, yet the chain goes on")
    return after, Problem("missing", f"{expected}: what is between is missing, or stands later")


def _changed(version: int, stored: str, computed: str) -> str:
    before = "the chain's beginning" if version == 1 else f"version {version - 1}"
    return (
        f"from {before} and what stands here follows the chain value {computed[:16]}…, "
        f"but {stored[:16]}… is stored: it was changed, or does not belong here"
    )


def _after_bad_header(links: Links, message: StoredMessage) -> Links:
    stored = message.headers.get(Header.CHAIN, "")
    version = message.headers.get(Header.AGGREGATE_VERSION, "")
    computed = chain_value(links[0].chain, message.subject, message.headers, message.payload)
    own = int(version) if _VERSION.fullmatch(version) else 0
    return _either(max(own, links[0].version + 1), stored, computed)


def _either(version: int, stored: str, computed: str) -> Links:
    """The next event tells whether this one or only its chain value was changed."""
    links = (Link(version, computed),)
    return (Link(version, stored), *links) if _CHAIN.fullmatch(stored) else links
