"""`eventstore dev`: run the service, and start it again when a file changes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import typer

from eventstore.cli.output.terminal import say
from eventstore.errors import ConfigurationError

_STOP_SECONDS = 15.0


async def dev(
    watch: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder whose Python files are watched.")
    ] = Path(),
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="The directory of the embedded server's data."),
    ] = Path("var"),
) -> None:
    """Run the service, and start it again when a file changes.

    The file is one of Python. It is `eventstore serve`, with an embedded server unless one is
    configured; data stays from one start to the next. If the program cannot be imported, the error
    is printed, and the next change is waited for. Needs the extra `develop`. Ctrl-C or SIGTERM ends
    both.
    """
    if not watch.is_dir():
        raise ConfigurationError(f"--watch {watch} is not a folder")
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with aclosing(_changes(watch, directory.absolute(), stopping)) as changes:
        service = await _start(directory)
        try:
            async for changed in changes:
                say(f"{changed} changed: starting again")
                await _stop(service)
                service = await _start(directory)
        finally:
            await _stop(service)


async def _changes(folder: Path, data: Path, stopping: asyncio.Event) -> AsyncGenerator[str, None]:
    """The name of a file at each change of Python files."""
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError as error:
        raise ConfigurationError(
            "watching files needs the extra: pip install 'jetstream-eventstore[develop]'"
        ) from error
    only_python = PythonFilter(ignore_paths=[data])
    async for changes in awatch(folder, watch_filter=only_python, stop_event=stopping):
        yield min(Path(path).name for _, path in changes)


async def _start(directory: Path) -> asyncio.subprocess.Process:
    program = [sys.executable, *_before_subcommand(), "serve", "--dir", str(directory)]
    return await asyncio.create_subprocess_exec(*program)


def _before_subcommand() -> list[str]:
    """The arguments of this process, from the program to the options before `dev`."""
    index = next(
        index
        for index, word in enumerate(sys.argv)
        if word == "dev" and sys.argv[index - 1] != "--app"
    )
    return sys.orig_argv[1 : index + len(sys.orig_argv) - len(sys.argv)]


async def _stop(service: asyncio.subprocess.Process) -> None:
    if service.returncode is not None:
        return
    service.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await service.wait()
    except TimeoutError:
        service.kill()
        await service.wait()
