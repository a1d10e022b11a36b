"""Other releases: commands of aggregates that only another release of the application knows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

from eventstore.client.client import Client
from eventstore.commands.decoding import ReceivedCommand
from eventstore.errors import PermissionDenied, UnknownType
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.ownership import Owner, claim, known_aggregates
from eventstore.messages.text import make_log_records_safe

_logger = make_log_records_safe(logging.getLogger(__name__))


class OtherReleases:
    """Tells which commands are another release's, from the metadata of the command stream.

    For a user who may not read those, none are. `left` counts their deliveries to this process, by
    aggregate.
    """

    def __init__(self, client: Client, stream: str, owner: Owner) -> None:
        self._client = client
        self._stream = stream
        self._owner = owner
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
        return True
