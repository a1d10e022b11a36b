"""Reads the events of one aggregate from the oldest to the newest, in pages of direct gets."""

from __future__ import annotations

from collections.abc import Callable

from eventstore.concurrency.pages import Pages
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.store.aggregate_reading import AggregateReading, FoundEvent, version_of
from eventstore.store.bounds import Bounds
from eventstore.store.keyring import Keyring

_ALL = Bounds()


def _nothing(_: StoredMessage | None) -> None:
    pass


class ForwardsReading(Pages[FoundEvent]):
    """The events of one aggregate within bounds of their versions.

    `stored` are its messages, from those after the head of `reading` on. `at_end` is called with
    the last event, if there is any, when all of them have been read, and may raise.
    """

    def __init__(
        self,
        stored: Pages[StoredMessage],
        reading: AggregateReading,
        keyring: Keyring,
        bounds: Bounds = _ALL,
        at_end: Callable[[StoredMessage | None], None] = _nothing,
    ) -> None:
        self._stored = stored
        self._reading = reading
        self._keyring = keyring
        self._at_end = at_end
        self._bounds = bounds
        self._last: StoredMessage | None = None

    async def next_page(self) -> list[FoundEvent]:
        """See `Pages`."""
        until = self._bounds.until
        while until is None or self._reading.head.version < until:
            messages = await self._stored.next_page()
            if not messages:
                self._at_end(self._last)
                break
            keys = await self._keyring.to_open(message.headers for message in messages)
            if found := self._reading.page(messages, keys):
                self._last = found[-1][0]
                if within := self._within(found):
                    return within
        return []

    def _within(self, found: list[FoundEvent]) -> list[FoundEvent]:
        bounds = self._bounds
        if bounds.until is None and version_of(found[0]) > bounds.after:
            return found
        return [each for each in found if bounds.includes(version_of(each))]
