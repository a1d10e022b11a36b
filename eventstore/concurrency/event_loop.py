"""The event loop of a process: uvloop's, if that is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop if that is installed; Ctrl-C cancels and cleans up."""
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(main)
    finally:
        main.close()  # Ctrl-C may have come before it began


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop: uvloop's, if that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
