"""What a verification finds, and what it sums up to."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from eventstore.audit.log_digest import LogDigest
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.headers import Header

__all__ = ["Finding", "Kind", "Summary"]

_VERSION = re.compile(r"[0-9]{1,18}")
_MOST_RANGES = 100

Kind = Literal[
    "changed",
    "missing",
    "version_gap",
    "out_of_order",
    "header",
    "wrong_aggregate",
    "unfinished_batch",
    "unfinished_import",
    "unknown_type",
    "duplicate_id",
    "unreadable",
    "foreign",
    "anchor",
]
"""What kinds of findings there are.

`changed`: the chain value does not follow from the event and the value before it. `missing`:
versions of an aggregate, or positions of the log, are not there. `version_gap`: versions are left
out, though the chain goes on: it was written so. `out_of_order`: a version that stands already, or
should stand earlier. `header`: a header is missing, malformed or contradicts another.
`wrong_aggregate`: the event names another aggregate than the subject it stands under.
`unfinished_batch`, `unknown_type` and `duplicate_id` say what they are. `unfinished_import`: the
log is a part of what is imported. `unreadable`: the code of
today cannot read the event, which is found only where it is tried, and beside anything else that is
wrong with it. `foreign`: the message has no envelope, or stands under no subject of the log: the
store did not write it. `anchor`: the log is not the one that was anchored.
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A broken promise of the log: where it shows, and in a sentence what was expected there.

    `first` is whether it is the first of its aggregate: what follows there may be a consequence.
    What is about no single event has the position where it shows, and no subject.
    """

    kind: Kind
    text: str
    position: int
    subject: str = ""
    version: int | None = None
    event_id: str | None = None
    first: bool = True

    @classmethod
    def about(cls, message: StoredMessage, kind: Kind, text: str, *, first: bool) -> Finding:
        """A finding about one event."""
        version = message.headers.get(Header.AGGREGATE_VERSION, "")
        return cls(
            kind=kind,
            text=text,
            position=message.sequence,
            subject=message.subject,
            version=int(version) if _VERSION.fullmatch(version) else None,
            event_id=message.headers.get(Header.EVENT_ID),
            first=first,
        )


class Summary(msgspec.Struct, kw_only=True):
    """How far a verification has come, and at its end what it came to.

    `total` is how many messages the log held when it began, `events` how many were looked at,
    `first` and `position` where the first and the last of them stand; `broken` is how many
    aggregates have a finding, `kinds` how many findings there are of each kind.

    Every message that was looked at counts as one of three: `proven`, where it follows on the event
    before it or on what that says of itself; `foreign`, where readers pass over it; `changed`,
    where it does not follow, though a later event was built upon it. `unreadable` is how many
    events this code cannot read, as far as that was tried. `missing` has the first ranges of
    positions that hold no message, `missing_positions` is how many positions all of them have.
    """

    total: int = 0
    events: int = 0
    aggregates: int = 0
    first: int = 0
    position: int = 0
    broken: int = 0
    proven: int = 0
    foreign: int = 0
    changed: int = 0
    unreadable: int = 0
    missing: list[tuple[int, int]] = []
    missing_positions: int = 0
    kinds: dict[Kind, int] = {}
    fold: LogDigest = msgspec.field(default_factory=LogDigest)

    @property
    def findings(self) -> int:
        """How many findings there are."""
        return sum(self.kinds.values())

    def miss(self, first: int, last: int) -> None:
        """Take note of positions that hold no message."""
        self.missing_positions += last - first + 1
        if len(self.missing) < _MOST_RANGES:
            self.missing.append((first, last))

    def count(self, finding: Finding) -> None:
        """Take note of a finding."""
        self.kinds[finding.kind] = self.kinds.get(finding.kind, 0) + 1
        self.broken += bool(finding.first and finding.subject)
