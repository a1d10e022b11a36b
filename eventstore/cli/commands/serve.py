"""`eventstore serve`: run the service."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from eventstore.cli.options import ServeSession
from eventstore.cli.output.terminal import say
from eventstore.cli.service import open_service


async def serve(session: ServeSession) -> None:
    """Run the service until Ctrl-C or SIGTERM.

    If no server is named, it runs on an embedded one. A server that does not answer yet is waited
    for, for a minute unless the configuration file has another value (nats.retry.first_connect_ms).

    Prints one line when it is ready. A second Ctrl-C ends the process immediately. Ends with
    status 0 when it is stopped, 2 for an error, 130 for Ctrl-C before it is ready.
    """
    settings = session.settings
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
            async with open_service(settings, session.directory) as service:
                is_ready = True
                say(
                    f"ready: {settings.nats.service.name} {settings.nats.service.version} "
                    f"on {service.app.client.url}, read model {service.database.name}"
                )
                await stopped.wait()
                typer.echo("stopping: finishing the work in progress", err=True)
            returned = service.app.worker.returned
            typer.echo(f"stopped: {returned} commands went back to the queue", err=True)
        except asyncio.CancelledError:
            if not stopped.is_set():
                raise
            if is_interrupted:
                raise KeyboardInterrupt from None


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
