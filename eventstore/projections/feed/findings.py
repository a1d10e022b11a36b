"""The feed's findings: what it has skipped in the log, saved beside its position.

The feed reads the whole log once, across restarts; so health checks still report, after a restart,
what was skipped before it.
"""

from __future__ import annotations

import contextlib

import msgspec

from eventstore.client.client import Client
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.key_value import KeyValue
from eventstore.messages.subjects import Subjects
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.store.foreign import FindingKind, LogFindings

KEY = "feed.foreign"
"""The key in the configuration bucket."""

_MAX_FINDINGS = 100
_MAX_TEXT = 200


class _SavedFindings(msgspec.Struct, frozen=True):
    """`log` is the identity of the log.

    `count` is how many foreign messages there are, `found` the last of them; `unpublished` are the
    last events that were left out.
    """

    log: str
    count: int
    found: dict[int, str]
    unpublished: dict[int, str] = {}


class FeedFindings:
    """Restores and saves `findings`; `timeout` is seconds an answer.

    It is best effort: failures to restore or save are ignored.
    """

    def __init__(
        self, client: Client, subjects: Subjects, findings: LogFindings, *, timeout: float = 5.0
    ) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)
        self._findings = findings

    async def restore(self, log: str) -> None:
        """Restore what was saved, if it is of this log."""
        with contextlib.suppress(ClientError, StreamMissing, *UNDECODABLE):
            message = await self._bucket.leader_get(KEY)
            if message is not None and message.payload:
                saved = msgspec.json.decode(message.payload, type=_SavedFindings)
                if saved.log == log:
                    self._findings.restore("foreign", saved.count, saved.found)
                    left_out = saved.unpublished
                    self._findings.restore("unpublished", len(left_out), left_out)

    async def save(self, log: str) -> None:
        """Save the current findings."""
        count = self._findings.count("foreign")
        saved = _SavedFindings(log, count, self._last("foreign"), self._last("unpublished"))
        with contextlib.suppress(ClientError):
            await self._bucket.put(KEY, msgspec.json.encode(saved))

    def _last(self, kind: FindingKind) -> dict[int, str]:
        last = list(self._findings.by_position(kind).items())[-_MAX_FINDINGS:]
        return {position: text[:_MAX_TEXT] for position, text in last}
