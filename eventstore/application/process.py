"""An application as a process: signals, the ready line, an orderly stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any, TypeVar

from eventstore.application.declaration import Declaration
from eventstore.application.halted import HaltedService, halted, halts
from eventstore.application.observability import export_traces
from eventstore.application.parts import ALL_PARTS, Parts
from eventstore.application.process_link import Failure, ProcessLink, inherited_link
from eventstore.application.read_side import end_with_parent, read_side_settings
from eventstore.application.runner import run_application
from eventstore.application.service import RunningApplication
from eventstore.config import Settings
from eventstore.errors import EventStoreError
from eventstore.messages.text import counted
from eventstore.service.json_logs import log_as_json

S = TypeVar("S")
_STOPPING = "stopping: finishing the work in progress"

Beside = Callable[[RunningApplication], AbstractAsyncContextManager[object]]
"""What runs beside a service, for as long as it does."""


def nothing_beside(_: RunningApplication) -> AbstractAsyncContextManager[object]:
    """Nothing."""
    return nullcontext()


async def serving(
    app: Declaration,
    settings: Settings,
    directory: Path,
    *,
    parts: Parts = ALL_PARTS,
    say: Callable[[str], object] = print,
    beside: Beside = nothing_beside,
) -> None:
    """Run parts of a service until Ctrl-C or SIGTERM; `say` prints the ready line.

    What `beside` makes of the service is entered when that is ready, in its first process.

    With two processes in the settings, this one starts the other one, and runs the write side. If
    the log went back, or is gone, it halts until the log fits again: it answers health, and does
    nothing else. Raises `KeyboardInterrupt` for Ctrl-C before it is ready.
    """
    if settings.operations.json_logs:
        log_as_json()
    if settings.operations.tracing:
        export_traces(app.identity(settings))
    if (link := inherited_link()) is not None:
        await _serve_read_side(app, settings, directory, parts, link)
        return
    while (error := await _run(app, settings, directory, parts, say, beside)) is not None:
        if not await _halt(app, settings, directory, parts, error):
            return


async def _run(
    app: Declaration,
    settings: Settings,
    directory: Path,
    parts: Parts,
    say: Callable[[str], object],
    beside: Beside,
) -> EventStoreError | None:
    """Run the service until it is stopped; returns the error that it is to halt for, if any."""
    in_two = settings.operations.processes > 1 and parts.has_both_sides
    running = _with(beside, run_application(app, settings, directory, parts, in_two=in_two))
    try:
        service = await _until_stopped(
            running, lambda service: say(_ready(service)), lambda: _note(_STOPPING)
        )
    except EventStoreError as error:
        if not halts(error):
            raise
        return error
    if service is not None and parts.worker:
        _note(_stopped(service.worker.returned))
    return None


async def _halt(
    app: Declaration, settings: Settings, directory: Path, parts: Parts, error: EventStoreError
) -> bool:
    """Do nothing but answer health; returns whether the log fits again, or it was stopped."""
    halting = halted(app, settings, directory, parts, error)
    service = await _until_stopped(
        halting, lambda _: _note(f"halted: {error}"), until=HaltedService.until_it_fits
    )
    if service is None or not service.fits:
        return False
    _note("the log has again what was seen of it: starting")
    return True


async def _serve_read_side(
    app: Declaration, settings: Settings, directory: Path, parts: Parts, link: ProcessLink
) -> None:
    """Run the second process; an error is reported to the first one, which raises it."""
    end_with_parent()
    await link.connect()
    try:
        settings = read_side_settings(settings, directory)
        await _until_stopped(run_application(app, settings, directory, parts.read_side, link=link))
    except EventStoreError as error:
        link.send(Failure(str(error), error.retryable, error.code))
    finally:
        await link.close()


@asynccontextmanager
async def _with(
    beside: Beside, running: AbstractAsyncContextManager[RunningApplication]
) -> AsyncIterator[RunningApplication]:
    async with running as service, beside(service):
        yield service


async def until_signal() -> None:
    """Return on the first Ctrl-C or SIGTERM; the second ends the process immediately."""
    stopped = asyncio.Event()
    with _on_signals(lambda _: stopped.set()):
        await stopped.wait()


def _nothing(*_: object) -> None:
    """What the second process prints."""


async def _for_ever(_: object) -> None:
    await asyncio.Event().wait()


async def _until_stopped(
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


def _ready(service: RunningApplication) -> str:
    read_model = f", read model {service.read_model_name}" if service.read_model_name else ""
    own = service.identity
    return f"ready: {own.name} {own.version} on {service.client.url}{read_model}"


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
