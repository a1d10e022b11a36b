"""The event loop of all benchmarks: uvloop if it is installed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_factory: Callable[[], asyncio.AbstractEventLoop]

try:
    import uvloop

    _factory = uvloop.new_event_loop
except ImportError:
    _factory = asyncio.new_event_loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; SIGTERM cancels it, so that the processes it started end too."""
    with asyncio.Runner(loop_factory=_factory) as runner:
        return runner.run(_cancellable(main))


async def _cancellable(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await main
