"""The import of lock files by commands, for `eventstore demo` and `eventstore nix import`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec

from eventstore.cli.output.outcomes import ExecutedCommand
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.commands import CommandClient, Outcome
from eventstore.concurrency.failures import ungrouped
from eventstore.errors import ClientError
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import new_id
from eventstore.messages.queries import MAX_ITEMS
from eventstore.nix import (
    AddFlakeInput,
    GetFlake,
    GetFlakeInputs,
    ImportedCommand,
    RemoveFlakeInput,
    change_commands,
    import_commands,
)

Flake = Sequence[ImportedCommand]
"""The commands for the flake of a lock file: its creation, and then its inputs."""

_MAX_CONCURRENCY = 32
_MAX_PLANS = 3
_READ_SECONDS = 30.0
_CHANGED_BY_OTHERS = ("input_exists", "input_unknown")


class FlakeImport(msgspec.Struct, frozen=True):
    """The result for one flake: its creation, the inputs it had already, and the changes."""

    flake: str
    created: ExecutedCommand
    unchanged: list[ExecutedCommand] = []
    changes: list[ExecutedCommand] = []

    @property
    def executed(self) -> list[ExecutedCommand]:
        """All of them."""
        return [self.created, *self.unchanged, *self.changes]

    def names(self, kind: type[AddFlakeInput | RemoveFlakeInput]) -> set[str]:
        """The inputs that were added or removed; both if their url changed."""
        return {
            imported.command.name
            for imported, outcome in self.changes
            if isinstance(imported.command, kind) and _has_events(outcome)
        }


def read_files(files: Sequence[Path], name: str | None = None) -> list[list[Flake]]:
    """The commands for each flake, in the order of the files; the same content only once.

    Raises `InvalidLockFile` before anything is sent.
    """
    flakes: dict[str, list[Flake]] = {}
    for file in files:
        commands = import_commands(file, name=name)
        states = flakes.setdefault(commands[0].aggregate_id, [])
        if commands not in states:
            states.append(commands)
    return list(flakes.values())


class LockFileImport:
    """Makes flakes equal to their lock files, by commands to a running service."""

    def __init__(self, client: Client, codec: Codec, commands: CommandClient) -> None:
        self._commands = commands
        self._queries = QueryClient(client, codec.subjects)

    async def run(self, flakes: Sequence[Sequence[Flake]], terminal: Terminal) -> list[FlakeImport]:
        """Import each flake's files in order, several flakes concurrently, with a progress bar.

        Raises what executing a command and asking a query raise. It can be repeated after that.
        """
        free = asyncio.Semaphore(_MAX_CONCURRENCY)
        total = sum(len(commands) for states in flakes for commands in states)
        done = 0
        with events_bar(terminal, "importing") as advance:

            async def bring(states: Sequence[Flake]) -> list[FlakeImport]:
                nonlocal done
                imported = []
                async with free:
                    for commands in states:
                        imported.append(await self._import(commands))
                        done += len(commands)
                        advance(done, total)
                return imported

            with ungrouped():
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(bring(states)) for states in flakes]
        return [each for task in tasks for each in task.result()]

    async def _import(self, flake: Flake) -> FlakeImport:
        """Create the flake, then execute what differs; planned again if others change it."""
        created = await self._execute(flake[0])
        path = _path(flake)
        if created.status != "success" and created.code != "already_exists":
            return FlakeImport(path, (flake[0], created))
        # The outcome of the creation may be old. A new command to create what exists is rejected
        # with the flake's current position, which a sender of commands need not be allowed to ask.
        head = await self._execute(msgspec.structs.replace(flake[0], command_id=new_id()))
        if head.code != "already_exists":
            return FlakeImport(path, (flake[0], head))
        changes: list[ExecutedCommand] = []
        position = head.position
        for _ in range(_MAX_PLANS):
            plan, unchanged = await self._plan(flake, position)
            outcomes = [await self._execute(each) for each in plan]
            position = max([position, *(outcome.position for outcome in outcomes)])
            changes = [each for each in changes if _has_events(each[1])]
            changes.extend(zip(plan, outcomes, strict=True))
            if not any(outcome.code in _CHANGED_BY_OTHERS for outcome in outcomes):
                break
        own = [imported.command for imported, _ in changes]
        still = [each for each in unchanged if each.command not in own]
        return FlakeImport(
            path,
            (flake[0], created if created.status == "success" else None),
            [(each, await self._earlier(each)) for each in still],
            changes,
        )

    async def _plan(
        self, flake: Flake, position: int
    ) -> tuple[list[ImportedCommand], list[ImportedCommand]]:
        """The commands for what differs from the flake, and for the inputs that are unchanged."""
        flake_id = flake[0].aggregate_id
        view = await self._queries.ask(
            GetFlake(id=flake_id), wait_for=position, timeout=_READ_SECONDS
        )
        query = GetFlakeInputs(id=flake_id, limit=MAX_ITEMS)
        inputs = self._queries.all(query, wait_for=position, timeout=_READ_SECONDS)
        known = {each.name: each.url async for each in inputs}
        unchanged = [
            each
            for each in flake
            if isinstance(each.command, AddFlakeInput)
            and known.get(each.command.name) == each.command.url
        ]
        return change_commands(flake, known, view.data.version), unchanged

    async def _execute(self, imported: ImportedCommand) -> Outcome:
        return await self._commands.execute(
            imported.command, imported.aggregate_id, command_id=imported.command_id
        )

    async def _earlier(self, imported: ImportedCommand) -> Outcome | None:
        """The outcome of the import that added an input; None if it is no longer known."""
        try:
            outcome = await self._commands.outcome(imported.command_id)
        except ClientError:
            return None
        return outcome if _has_events(outcome) else None


def _has_events(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status == "success" and bool(outcome.event_ids)


def _path(flake: Flake) -> str:
    return str(getattr(flake[0].command, "path", flake[0].aggregate_id))
