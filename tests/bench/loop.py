"""The event loop of all benchmarks: uvloop if it is installed."""

from __future__ import annotations

import asyncio
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
    """Run a coroutine to its end."""
    with asyncio.Runner(loop_factory=_factory) as runner:
        return runner.run(main)
