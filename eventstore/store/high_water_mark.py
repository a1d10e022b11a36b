"""The high-water mark: the highest position of the log that a process has seen, and what is there.

After a connection was lost, it is compared with the log before anything else is appended: the log
may have gone back meanwhile. Otherwise it costs a comparison of two numbers for each append.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eventstore.client.client import Client
from eventstore.errors import LogDiverged, LogMissing, StreamMissing
from eventstore.jetstream.direct_get import DirectReader
from eventstore.store.head import NOTHING, Head
from eventstore.store.log_mark import LogMark, check_mark

OnDiverged = Callable[[LogMark], Awaitable[object]]


async def _ignored(_: LogMark) -> None:
    """What was there when the log turns out to have gone back is nobody's concern."""


class HighWaterMark:
    """What one process has seen of one log; raises if that is no longer there.

    `is_verified` says that it was there when it was compared last, and the connection was not lost
    since. Once it was not there, that does not change: the log is another one, even when it has
    grown again; before that is raised first, `on_diverged` is awaited with what was there. Without
    `is_guard`, it is noted and never compared.
    """

    def __init__(
        self, client: Client, stream: str, *, is_guard: bool = False, timeout: float = 5.0
    ) -> None:
        self.is_verified = True
        self.on_diverged: OnDiverged = _ignored
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
            doubts = self._doubts
            if (mark := self.mark) is not None:
                await self._check(mark)
            self.is_verified = doubts == self._doubts

    async def _check(self, mark: LogMark) -> None:
        try:
            await check_mark(self._client, self._reader, mark)
        except StreamMissing as error:
            known = f"this process has read it up to position {mark.position}"
            self._error = LogMissing(self._reader.stream, known)
            raise self._error from error
        except LogDiverged as error:
            self._error = error
            await self.on_diverged(mark)
            raise

    async def catch_up(self) -> None:
        """Compare it with the log, and note where that ends, which others may have appended.

        Raises as `verify`, and `StreamMissing` if nothing was seen before.
        """
        await self.compare()
        if (last := await self._reader.leader_last(">")) is not None:
            self.note(LogMark.of(last))
