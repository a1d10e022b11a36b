"""`eventstore serve`: the service, staying up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from eventstore.cli.terminal import say
from eventstore.cli.wiring import open_service
from eventstore.config import Settings

__all__ = ["FIRST_CONNECT_MS", "serve"]

FIRST_CONNECT_MS = 60_000
"""For how long a server that does not answer yet is waited for, where no setting says so."""


async def serve(settings: Settings, directory: Path) -> None:
    """Run until Ctrl-C or SIGTERM; says on standard output, in one line, when it is ready.

    A second Ctrl-C ends the process at once. Raises what ends the command worker or a
    projection, and `KeyboardInterrupt` for a Ctrl-C before it is ready.
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
            async with open_service(settings, directory) as service:
                is_ready = True
                say(
                    f"ready: {settings.nats.service.name} {settings.nats.service.version} "
                    f"on {service.app.client.url}, read model {service.database.name}"
                )
                await stopped.wait()
                typer.echo("stopping: finishing what is under way", err=True)
            returned = service.app.worker.returned
            typer.echo(f"stopped: {returned} commands went back to the queue", err=True)
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
            if is_interrupted:
                raise KeyboardInterrupt from None


@contextmanager
def _on_signals(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C or SIGTERM; the second ends the process at once.

    That is safe, because nothing that was acknowledged hangs on an orderly end; an embedded server
    then ends by itself.
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
