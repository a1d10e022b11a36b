"""Signals: what runs until Ctrl-C or SIGTERM, and ends in order; the second one ends it at once."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

S = TypeVar("S")


async def until_signal() -> None:
    """Return on the first Ctrl-C or SIGTERM; the second ends the process immediately."""
    stopped = asyncio.Event()
    with _on_signals(lambda _: stopped.set()):
        await stopped.wait()


def _nothing(*_: object) -> None:
    """Nobody is told."""


async def _for_ever(_: object) -> None:
    await asyncio.Event().wait()


async def until_stopped(
    running: AbstractAsyncContextManager[S],
    ready: Callable[[S], object] = _nothing,
    stopping: Callable[[], object] = _nothing,
    until: Callable[[S], Coroutine[Any, Any, None]] = _for_ever,
) -> S | None:
    """Run a service until a signal, or until `until` returns.

    Returns the service, or None if it was stopped before it was ready.
    """
    starting = asyncio.current_task()
    stopped = asyncio.Event()
    is_ready = is_interrupted = False

    def stop(number: int) -> None:
        nonlocal is_interrupted
        is_interrupted = number == signal.SIGINT
        stopped.set()
        if starting is not None and not is_ready:
            starting.cancel()

    with _on_signals(stop):
        try:
            async with running as service:
                is_ready = True
                collect_garbage_less_often()
                ready(service)
                await _first_of(stopped.wait(), until(service))
                stopping()
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
            if is_interrupted:
                raise KeyboardInterrupt from None
            return None
        return service


async def _first_of(*several: Coroutine[Any, Any, object]) -> None:
    """Return when one of them has ended; the others are cancelled. Raises what that one raises."""
    tasks = [asyncio.ensure_future(each) for each in several]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def collect_garbage_less_often() -> None:
    """Leave what is there out of garbage collections, and have fewer of them.

    A full one takes up to 100 ms of a service, in which it answers nothing; commands and events
    leave few cycles behind.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@contextmanager
def _on_signals(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C or SIGTERM; the second ends the process immediately.

    That is safe, because nothing that was acknowledged depends on an orderly shutdown; an embedded
    server then ends by itself.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stopping(received: int) -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop(received)

    for number in numbers:
        loop.add_signal_handler(number, stopping, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
