"""Whether the lines of a file are the store's events: their subjects, envelopes and chains."""

from __future__ import annotations

from eventstore.audit.working_set import Aggregate, WorkingSet
from eventstore.errors import InvalidSubject
from eventstore.jetstream.direct_get import StoredMessage
from eventstore.messages.subjects import Subjects
from eventstore.store.chain_links import Followed, Problem, follow
from eventstore.transfer.file_format import EventLine

__all__ = ["LineChains"]

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
            _, aggregate_id = self._subjects.parse_log(event.subject)
        except InvalidSubject as error:
            return Followed(aggregate.links, Problem("foreign", str(error)))
        message = StoredMessage(event.subject, event.position, event.headers, event.payload)
        followed = follow(aggregate.links, message, aggregate_id)
        aggregate.links = followed.links
        return followed

    def _aggregate(self, subject: str) -> Aggregate:
        if subject not in self._known:
            if len(self._known) >= _MOST_AT_HAND:
                self._seen.keep(self._known)
                self._known.clear()
            self._known |= self._seen.aggregates([subject])
        return self._known[subject]
