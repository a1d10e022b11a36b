"""Lock files become commands: shared by `eventstore demo` and `eventstore nix import`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from eventstore.cli.connecting import connected, log_end
from eventstore.commands import CommandClient, Outcome
from eventstore.config import Settings
from eventstore.errors import ClientError
from eventstore.failures import ungrouped
from eventstore.nix import ImportedCommand, domain, import_commands

__all__ = ["Executed", "execute_all", "import_files", "read_files"]

Executed = tuple[ImportedCommand, Outcome]

_AT_ONCE = 32


def read_files(files: Sequence[Path], name: str | None = None) -> list[list[ImportedCommand]]:
    """The commands for each flake, each command once, however often a file is named.

    Raises `InvalidLockFile` before anything is sent.
    """
    flakes: dict[str, dict[str, ImportedCommand]] = {}
    for file in files:
        for each in import_commands(file, name=name):
            flakes.setdefault(each.aggregate_id, {})[each.command_id] = each
    return [list(commands.values()) for commands in flakes.values()]


async def execute_all(
    commands: CommandClient, flakes: Sequence[Sequence[ImportedCommand]], console: Console
) -> list[Executed]:
    """Execute the commands of each flake in order, several flakes at once, and show progress."""
    free = asyncio.Semaphore(_AT_ONCE)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("importing", total=sum(map(len, flakes)))

        async def execute(flake: Sequence[ImportedCommand]) -> list[Executed]:
            executed = []
            async with free:
                for each in flake:
                    outcome = await commands.execute(
                        each.command, each.aggregate_id, command_id=each.command_id
                    )
                    executed.append((each, outcome))
                    progress.advance(bar)
            return executed

        with ungrouped():
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(execute(flake)) for flake in flakes]
    return [executed for task in tasks for executed in task.result()]


async def import_files(
    settings: Settings, files: Sequence[Path], name: str | None, console: Console
) -> tuple[list[Executed], int]:
    """Import lock files into a running service; also returns where the log ended before."""
    flakes = read_files(files, name)
    codec = domain(settings.nats.subject_prefix).codec
    async with connected(settings) as client, CommandClient(client, codec) as commands:
        try:
            known = await log_end(client, codec)
        except ClientError:
            known = 0  # who may send commands need not be allowed to ask this
        return await execute_all(commands, flakes, console), known
