"""Other releases: commands of aggregates that only another release of the application knows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from eventstore.client.client import Client
from eventstore.commands.decoding import ReceivedCommand
from eventstore.errors import PermissionDenied, UnknownType
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.ownership import (
    Owner,
    claim,
    known_aggregates,
    left_aggregates,
    note_left,
)
from eventstore.jetstream.topology import ConsumerSpec
from eventstore.messages.text import make_log_records_safe

_CHECK_SECONDS = 60.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class OtherReleases:
    """Tells which commands are another release's, from the metadata of the command stream.

    For a user who may not read those, none are. `left` counts their deliveries to this process, by
    aggregate. That some were left is noted in the metadata, too, for the release that carries them
    out: those deliveries say nothing about a command.
    """

    def __init__(self, client: Client, consumer: ConsumerSpec, owner: Owner) -> None:
        self._client = client
        self._consumer = consumer
        self._stream = consumer.stream
        self._owner = owner
        self._noted: set[str] = set()
        self._noting = asyncio.Lock()
        self._checked = -_CHECK_SECONDS
        self._known: frozenset[str] = frozenset()
        self._left: Counter[str] = Counter()

    @property
    def left(self) -> Mapping[str, int]:
        """How often commands were left to other releases, by aggregate."""
        return self._left

    async def claim(self) -> None:
        """Note this release's aggregates; raises what `ownership.claim` and `stream_info` raise."""
        with suppress(PermissionDenied):
            await claim(self._client, self._owner, await stream_info(self._client, self._stream))

    async def take(self, received: ReceivedCommand) -> bool:
        """Whether a command is to be left to another release; logged once for each aggregate.

        Raises `StreamMissing` and `ClientError`.
        """
        aggregate = received.aggregate if isinstance(received.content, UnknownType) else None
        if aggregate is None or aggregate in self._owner.aggregates:
            return False
        if aggregate not in self._known:  # another release may have noted it a moment ago
            with suppress(PermissionDenied):
                self._known = await known_aggregates(self._client, self._stream)
        if aggregate not in self._known:
            return False
        if aggregate not in self._left:
            _logger.warning(
                "commands of %s stay in the queue for another release of %s, which knows that "
                "aggregate; this one does not",
                *(aggregate, self._owner.domain),
            )
        self._left[aggregate] += 1
        await self._note(aggregate)
        await self._check_room()
        return True

    async def were_left(self, aggregate: str) -> bool:
        """Whether some release has left commands of an aggregate; raises as `take`."""
        with suppress(PermissionDenied):
            return aggregate in await left_aggregates(self._client, self._stream)
        return False

    async def _note(self, aggregate: str) -> None:
        async with self._noting:  # or two would lose each other's note
            if aggregate not in self._noted:
                with suppress(PermissionDenied):
                    await note_left(self._client, self._stream, aggregate)
                self._noted.add(aggregate)

    async def _check_room(self) -> None:
        """Log, once a minute, that so many are left that the server delivers no others."""
        if time.monotonic() < self._checked + _CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        found = await find_consumer(self._client, self._stream, self._consumer.name)
        limit = self._consumer.settings["max_ack_pending"]
        if found is not None and found.num_ack_pending >= limit:
            _logger.error(
                "the server delivers no more commands, as %d are not done, and those of %s among "
                "them are left to another release of %s: start it",
                *(found.num_ack_pending, ", ".join(sorted(self._left)), self._owner.domain),
            )
