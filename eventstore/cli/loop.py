"""The loop that every subcommand runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, on uvloop where that is installed; Ctrl-C cancels and cleans up."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory) as runner:
            return runner.run(main)
    finally:
        main.close()  # where Ctrl-C came before it began


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
