"""The retry of failed processes: once more to each parked event, in the order of the log."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from eventstore.errors import ParkedError
from eventstore.parking.messages import ParkedMessages, RetrySummary


async def retry_failed(
    parking: ParkedMessages,
    find: Callable[[], Awaitable[Iterable[int]]],
    *,
    timeout: float = 30.0,
) -> RetrySummary:
    """Retry the parked events whose sequences `find` returns, in its order, until none is new.

    What a retry leads to may be parked behind others in the meantime, so it is called again. The
    service must be running; `timeout` is seconds for each event. Events at which a process fails
    again stay parked, with the reason. Raises what `find` raises, and `ClientError`.
    """
    retried, left = 0, dict[int, str]()
    while found := [each for each in await find() if each not in left]:
        for sequence in found:
            try:
                await parking.retry(sequence, out_of_order=True, timeout=timeout)
            except ParkedError as error:
                left[sequence] = str(error)
            else:
                retried += 1
    return RetrySummary(retried, left)
