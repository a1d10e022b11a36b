"""An application as a process: signals, the ready line, an orderly stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eventstore.application.declaration import Declaration
from eventstore.application.parts import ALL_PARTS, Parts
from eventstore.application.runner import run_application
from eventstore.config import Settings
from eventstore.messages.text import counted


async def serving(
    app: Declaration,
    settings: Settings,
    directory: Path,
    *,
    parts: Parts = ALL_PARTS,
    say: Callable[[str], object] = print,
) -> None:
    """Run parts of a service until Ctrl-C or SIGTERM; `say` prints the ready line.

    Raises `KeyboardInterrupt` for Ctrl-C before it is ready.
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
            async with run_application(app, settings, directory, parts) as service:
                is_ready = True
                database = service.database
                read_model = "" if database is None else f", read model {database.name}"
                own = service.identity
                say(f"ready: {own.name} {own.version} on {service.client.url}{read_model}")
                await stopped.wait()
                _note("stopping: finishing the work in progress")
            if parts.worker:
                _note(_stopped(service.worker.returned))
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
            if is_interrupted:
                raise KeyboardInterrupt from None


def _stopped(returned: int) -> str:
    if not returned:
        return "stopped"
    return f"stopped: {counted(returned, 'command')} returned to the queue"


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


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
