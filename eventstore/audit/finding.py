"""The findings of a verification, and their summary."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from eventstore.audit.log_digest import LogDigest
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.headers import Header

_VERSION = re.compile(r"[0-9]{1,18}")
_MAX_RANGES = 100

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
"""The kinds of findings.

`changed`: the chain value does not match the event and the value before it. `missing`: versions of
an aggregate, or positions of the log, are missing. `version_gap`: versions are skipped though the
chain is intact: it was written like that. `out_of_order`: a version is repeated, or too late.
`header`: a header is missing, malformed or contradicts another. `wrong_aggregate`: the event names
another aggregate than its subject does. `unfinished_batch`, `unknown_type`, `duplicate_id`: as
named. `unfinished_import`: an import into the log is not complete. `unreadable`: the current code
cannot read the event; checked only on request, and reported in addition to other findings.
`foreign`: the message has no envelope, or its subject is not one of the log: the store did not
write it. `anchor`: the log does not match its anchor.
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A violation of a guarantee of the log: its position, and a sentence that describes it.

    `first` is whether it is the first of its aggregate: further ones may be consequences. A finding
    that is not about a single event has no subject.
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


class VerifySummary(msgspec.Struct, kw_only=True):
    """The progress of a verification, and its result in the end.

    `total` is how many messages the log had at the start, `events` how many were checked, `first`
    and `position` the positions of the first and the last of them; `broken` is how many aggregates
    have a finding, `kinds` how many findings there are of each kind.

    Every checked message counts as one of three: `proven`, if it is chained to the event before it
    or to what that claims to be; `foreign`, if readers skip it; `changed`, if it is not chained,
    but a later event is chained to it. `unreadable` is how many events this code cannot read, as
    far as that was checked. `missing` has the first ranges of positions without a message,
    `missing_positions` is the number of positions in all ranges.
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
        """Count positions without a message."""
        self.missing_positions += last - first + 1
        if len(self.missing) < _MAX_RANGES:
            self.missing.append((first, last))

    def count(self, finding: Finding) -> None:
        """Count a finding."""
        self.kinds[finding.kind] = self.kinds.get(finding.kind, 0) + 1
        self.broken += bool(finding.first and finding.subject)
