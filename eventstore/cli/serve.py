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

__all__ = ["serve"]


async def serve(settings: Settings, directory: Path) -> None:
    """Run until Ctrl-C or SIGTERM; says on standard output, in one line, when it is ready.

    A second Ctrl-C ends the process at once. Raises what ends the command worker or a
    projection.
    """
    starting = asyncio.current_task()
    stopped = asyncio.Event()
    is_ready = False

    def stop() -> None:
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


@contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C or SIGTERM; the second ends the process at once.

    That is safe, because nothing that was acknowledged hangs on an orderly end; an embedded server
    then ends by itself.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def stopping() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop()

    for number in numbers:
        loop.add_signal_handler(number, stopping)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
