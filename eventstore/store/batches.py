"""Atomic batches in the log: which messages belong to one, and whether it is complete."""

from __future__ import annotations

from collections.abc import Mapping

from eventstore.client.api_answers import decimal
from eventstore.client.protocol import UnreadableHeaders
from eventstore.errors import IncompleteBatch
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.text import counted


class BatchCheck:
    """Checks that atomic batches are complete, while events pass in the order of the log.

    With `anywhere`, reading may begin in the middle of a batch.
    """

    def __init__(self, *, anywhere: bool = True) -> None:
        self._open: str | None = None
        self._sequence = 0
        self._lenient = anywhere
        self._is_own = False
        self._lacks_some = False

    @property
    def is_open(self) -> bool:
        """Whether more events of the last one's batch must follow."""
        return self._open is not None

    def see(self, headers: Mapping[str, str], position: int, *, foreign: bool = False) -> None:
        """Take the next message; raises `IncompleteBatch`, and can go on after it.

        A batch of only foreign messages may be incomplete.
        """
        batch = _batch_of(headers)
        if batch is None and self._open is None:
            self._lenient = False
            return
        before, count = self._open, self._sequence
        sequence = decimal(headers.get(NatsHeader.BATCH_SEQUENCE)) or 0
        expected = count + 1 if batch == before else 1
        lenient, self._lenient = self._lenient, False
        committed = NatsHeader.BATCH_COMMIT in headers
        self._open = None if committed else batch
        self._sequence = 0 if committed else sequence
        broken = self._is_own and before is not None and batch != before
        self._is_own = not foreign or (self._is_own and batch == before)
        lacks_some = batch is not None and sequence != expected and not lenient
        lacks_some |= self._lacks_some and batch == before
        self._lacks_some = lacks_some and not self._is_own
        if broken or (lacks_some and self._is_own):
            raise IncompleteBatch(
                f"position {position}: batch {before or batch} breaks off after "
                f"{counted(count, 'event')}"
            )


def is_followed(headers: Mapping[str, str]) -> bool:
    """Whether more messages of a message's batch must follow."""
    return _batch_of(headers) is not None and NatsHeader.BATCH_COMMIT not in headers


def _batch_of(headers: Mapping[str, str]) -> str | None:
    """The id of a message's batch; None for malformed headers, in which the server sees none."""
    return (
        None if isinstance(headers, UnreadableHeaders) else headers.get(NatsHeader.BATCH_ID) or None
    )
