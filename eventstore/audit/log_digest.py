"""The digest of a log: one hash over all its events.

SHA-256 over the subject, version and chain value of every event in the order of the log, each on
a line of its own. Positions are not included, so it is the same after an export and import.
"""

from __future__ import annotations

import hashlib

from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.chain import GENESIS
from eventstore.messages.headers import Header

_MAX_MARKS = 32


class LogDigest:
    """Computed event by event.

    `marks` has intermediate values by the number of events, at most 32 and evenly spread, so that a
    later difference can be narrowed down to the events between two of them.
    """

    def __init__(self) -> None:
        self.events = 0
        self.aggregates = 0
        self.last_event_id = ""
        self.last_chain = GENESIS
        self.marks: dict[int, str] = {}
        self._step = 1
        self._hash = hashlib.sha256()

    @property
    def root(self) -> str:
        """The digest of all events so far: 64 hexadecimal digits."""
        return self._hash.hexdigest()

    def add(self, message: StoredMessage, *, is_new: bool) -> None:
        """Add the next event; `is_new` is whether it is the first of its aggregate."""
        headers = message.headers
        chain = headers.get(Header.CHAIN, "")
        version = headers.get(Header.AGGREGATE_VERSION, "")
        self._hash.update(f"{message.subject}\n{version}\n{chain}\n".encode())
        self.events += 1
        self.aggregates += is_new
        self.last_event_id, self.last_chain = headers.get(Header.EVENT_ID, ""), chain
        if self.events % self._step == 0:
            self._mark()

    def _mark(self) -> None:
        self.marks[self.events] = self.root
        if len(self.marks) == _MAX_MARKS:
            self._step *= 2
            self.marks = {at: root for at, root in self.marks.items() if at % self._step == 0}
