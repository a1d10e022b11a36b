"""Lock files become commands: shared by `eventstore demo` and `eventstore nix import`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eventstore.client import connect
from eventstore.commands import CommandClient, Outcome
from eventstore.config import Settings
from eventstore.nix import ImportedCommand, domain, import_commands

__all__ = ["Executed", "execute_all", "import_files", "read_files"]

Executed = tuple[ImportedCommand, Outcome]

_AT_ONCE = 32


def read_files(files: Sequence[Path], name: str | None = None) -> list[list[ImportedCommand]]:
    """The commands of each file; raises `InvalidLockFile` before anything is sent."""
    return [import_commands(file, name=name) for file in files]


async def execute_all(
    commands: CommandClient, files: Sequence[Sequence[ImportedCommand]], console: Console
) -> list[Executed]:
    """Execute the commands of each file in order, several files at once, and show progress."""
    free = asyncio.Semaphore(_AT_ONCE)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("importing", total=sum(map(len, files)))

        async def execute(file: Sequence[ImportedCommand]) -> list[Executed]:
            executed = []
            async with free:
                for each in file:
                    outcome = await commands.execute(
                        each.command, each.aggregate_id, command_id=each.command_id
                    )
                    executed.append((each, outcome))
                    progress.advance(bar)
            return executed

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(execute(file)) for file in files]
    return [executed for task in tasks for executed in task.result()]


async def import_files(
    settings: Settings, files: Sequence[Path], name: str | None, console: Console
) -> list[Executed]:
    """Import lock files into a running service."""
    lock_files = read_files(files, name)
    codec = domain(settings.nats.subject_prefix).codec
    async with connect(settings) as client, CommandClient(client, codec) as commands:
        return await execute_all(commands, lock_files, console)
