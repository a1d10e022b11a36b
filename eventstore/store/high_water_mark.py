"""The high-water mark: the highest position of the log that a process has seen, and what is there.

After a connection was lost, it is compared with the log before anything else is appended: the log
may have gone back meanwhile. Otherwise it costs a comparison of two numbers for each append.
"""

from __future__ import annotations

import asyncio

from eventstore.client.client import Client
from eventstore.errors import LogDiverged, LogMissing, StreamMissing
from eventstore.jetstream.direct_get import DirectReader
from eventstore.store.head import NOTHING, Head
from eventstore.store.log_mark import LogMark, check_mark


class HighWaterMark:
    """What one process has seen of one log; raises if that is no longer there.

    `is_verified` says that it was there when it was compared last, and the connection was not lost
    since. Once it was not there, that does not change: the log is another one, even when it has
    grown again. Without `is_guard`, it is noted and never compared.
    """

    def __init__(
        self, client: Client, stream: str, *, is_guard: bool = False, timeout: float = 5.0
    ) -> None:
        self.is_verified = True
        self._is_guard = is_guard
        self._client = client
        self._reader = DirectReader(client, stream, timeout=timeout)
        self._last: Head | LogMark = NOTHING
        self._doubts = 0
        self._error: LogDiverged | LogMissing | None = None
        self._verifying = asyncio.Lock()

    @property
    def position(self) -> int:
        """The highest position seen; 0 for none."""
        return self._last.position

    @property
    def mark(self) -> LogMark | None:
        """What is at the highest position seen; None if nothing was seen."""
        last = self._last
        if not last.position:
            return None
        return LogMark(last.position, last.event_id, last.chain)

    def note(self, seen: Head | LogMark) -> None:
        """Note what was read from the log, or acknowledged by it."""
        if seen.position > self._last.position:
            self._last = seen

    def doubt(self) -> None:
        """Have it compared before the next append: the log may have gone back."""
        self._doubts += 1
        self.is_verified = not self._is_guard

    async def verify(self) -> None:
        """Compare it with the log, as its leader has it, if that is in doubt.

        Raises `LogDiverged`, `LogMissing`, and `ClientError` if the server could not be asked.
        """
        if not self.is_verified:
            await self.compare()

    async def compare(self) -> None:
        """Compare it with the log; raises as `verify`."""
        async with self._verifying:
            if self._error is not None:
                raise self._error
            doubts, mark = self._doubts, self.mark
            try:
                if mark is not None:
                    await check_mark(self._client, self._reader, mark)
            except StreamMissing as error:
                stream, last = self._reader.stream, self.position
                self._error = LogMissing(stream, f"this process has read it up to position {last}")
                raise self._error from error
            except LogDiverged as error:
                self._error = error
                raise
            self.is_verified = doubts == self._doubts

    async def catch_up(self) -> None:
        """Compare it with the log, and note where that ends, which others may have appended.

        Raises as `verify`, and `StreamMissing` if nothing was seen before.
        """
        await self.compare()
        if (last := await self._reader.leader_last(">")) is not None:
            self.note(LogMark.of(last))
