"""What a feed has passed over in the log, kept beside its place for the next process.

The feed is the reader that goes through the whole log once, whoever is restarted meanwhile; so
health still names, after a restart, what was passed over before it.
"""

from __future__ import annotations

import contextlib

import msgspec

from eventstore.client.client import Client
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.key_value import KeyValue
from eventstore.messages.subjects import Subjects
from eventstore.store.foreign import FindingKind, LogFindings
from eventstore.undecodable import UNDECODABLE

__all__ = ["FeedFindings"]

KEY = "feed.foreign"
"""The key in the configuration bucket."""

_MOST_KEPT = 100
_MOST_TEXT = 200


class _Kept(msgspec.Struct, frozen=True):
    """`log` is the identity of the log.

    `count` is how many foreign messages there are, `found` the last of them; `unpublished` are the
    last events that were left out.
    """

    log: str
    count: int
    found: dict[int, str]
    unpublished: dict[int, str] = {}


class FeedFindings:
    """Restores and keeps what `findings` know; `timeout` is seconds an answer.

    It is best effort: what cannot be kept or restored now is passed over.
    """

    def __init__(
        self, client: Client, subjects: Subjects, findings: LogFindings, *, timeout: float = 5.0
    ) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)
        self._findings = findings

    async def restore(self, log: str) -> None:
        """Have known what was kept, if it is of this log."""
        with contextlib.suppress(ClientError, StreamMissing, *UNDECODABLE):
            message = await self._bucket.leader_get(KEY)
            if message is not None and message.payload:
                kept = msgspec.json.decode(message.payload, type=_Kept)
                if kept.log == log:
                    self._findings.restore("foreign", kept.count, kept.found)
                    left_out = kept.unpublished
                    self._findings.restore("unpublished", len(left_out), left_out)

    async def keep(self, log: str) -> None:
        """Keep what is known now."""
        count = self._findings.count("foreign")
        kept = _Kept(log, count, self._last("foreign"), self._last("unpublished"))
        with contextlib.suppress(ClientError):
            await self._bucket.put(KEY, msgspec.json.encode(kept))

    def _last(self, kind: FindingKind) -> dict[int, str]:
        last = list(self._findings.by_position(kind).items())[-_MOST_KEPT:]
        return {position: text[:_MOST_TEXT] for position, text in last}
