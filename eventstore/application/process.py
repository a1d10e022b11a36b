"""An application as a process: what it prints, whether it halts, and an orderly stop."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    nullcontext,
)
from pathlib import Path

from eventstore.application.declaration import Declaration
from eventstore.application.halted import HaltedService, halted, halts
from eventstore.application.observability import export_traces
from eventstore.application.parts import ALL_PARTS, Parts
from eventstore.application.process_link import Failure, ProcessLink, inherited_link
from eventstore.application.read_side import end_with_parent, read_side_settings
from eventstore.application.runner import run_application
from eventstore.application.service import RunningApplication
from eventstore.application.signals import until_stopped
from eventstore.config import Settings
from eventstore.errors import EventStoreError
from eventstore.messages.text import counted
from eventstore.service.json_logs import log_as_json

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
        service = await until_stopped(
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
    service = await until_stopped(
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
        await until_stopped(run_application(app, settings, directory, parts.read_side, link=link))
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
