"""`eventstore demo`: the whole pipeline once, from lock files to rows, printed step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import select

from eventstore import nix
from eventstore.application.service import RunningApplication
from eventstore.cli.nix.lock_files import LockFileImport, read_files
from eventstore.cli.options import DemoSession
from eventstore.cli.output.outcomes import ExecutedCommand, print_executed
from eventstore.cli.output.terminal import Terminal, brief, program, table
from eventstore.jetstream.api import log_end
from eventstore.messages.events import RecordedEvent
from eventstore.messages.text import counted, printable
from projections import app
from projections.models import flake, flake_input

_CATCH_UP_SECONDS = 60.0

_NEXT_STEPS = """
Continue: run the service with
  {eventstore} serve
and talk to it from another terminal:
  {eventstore} send nix.cmd.flake.create --id mine \\
      --data '{{"path": "./mine", "description": "my first flake"}}'
  {eventstore} query flake list
  {eventstore} audit history flake mine
  {eventstore} nix import path/to/flake.lock"""


async def demo(
    session: DemoSession,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="flake.lock files.  [default: samples]"),
    ] = None,
) -> None:
    """Run everything once on real lock files.

    Lock files become commands, events and rows, on an embedded server if none is named. Ends with
    status 0 if every command succeeded, 1 if not, 2 for an error.
    """
    terminal, settings, directory = Terminal(), session.settings, session.directory
    flakes = read_files(files or nix.samples())
    terminal.print_line("1. A server and the service", "bold")
    async with app.running(settings, directory=directory) as service:
        client = service.client
        data = "" if settings.nats.url else f", its data in {directory / 'nats'}"
        terminal.print_line(f"nats-server {client.server_version} on {client.url}{data}")
        codec = service.domain.codec
        known = await log_end(client, codec.subjects)
        lock_file_import = LockFileImport(client, codec, service.commands)
        imported = await lock_file_import.run(flakes, terminal)
        executed = [pair for each in imported for pair in each.executed]
        outcomes = [outcome for _, outcome in executed if outcome is not None]
        position = max([known, *(outcome.position for outcome in outcomes)])
        for each in app.projections:
            await service.wait(position, each.name, _CATCH_UP_SECONDS)
        await _show(terminal, service, executed, known)
    succeeded = all(outcome.status == "success" for outcome in outcomes)
    raise typer.Exit(0 if succeeded else 1)


async def _show(
    terminal: Terminal, service: RunningApplication, executed: Sequence[ExecutedCommand], known: int
) -> None:
    terminal.print("\n2. The commands and their outcomes", style="bold")
    print_executed(terminal, executed, known)
    terminal.print("\n3. The events in JetStream, each caused by a command", style="bold")
    ids = list(dict.fromkeys(imported.aggregate_id for imported, _ in executed))
    events = [event for each in ids async for event in service.store.read("flake", each)]
    _print_events(terminal, sorted(events, key=lambda event: event.position))
    title = f"\n4. The read model in {service.read_model.name}"
    terminal.print(title, style="bold", soft_wrap=True)
    await _show_rows(terminal, service, ids)
    terminal.print(_NEXT_STEPS.format(eventstore=program()), soft_wrap=True)


async def _show_rows(terminal: Terminal, service: RunningApplication, ids: Sequence[str]) -> None:
    flakes = select(*flake.c["id", "path", "version", "updated_at"])
    inputs = select(*flake_input.c["flake_id", "name", "url"])
    async with service.read_model.engine.connect() as connection:
        for name, query in (
            ("flake", flakes.where(flake.c.id.in_(ids)).order_by(flake.c.path)),
            ("flake_input", inputs.where(flake_input.c.flake_id.in_(ids)).order_by("flake_id")),
        ):
            rows = (await connection.execute(query)).mappings().all()
            _print_rows(terminal, name, [dict(row) for row in rows])


def _print_events(terminal: Terminal, events: Iterable[RecordedEvent]) -> None:
    shown = table("position", "time (UTC)", "event", "aggregate", "version", "caused by")
    for event in events:
        shown.add_row(
            str(event.position),
            event.time.strftime("%H:%M:%S.%f")[:-3],
            printable(event.type),
            printable(f"{event.aggregate} {brief(event.aggregate_id)}"),
            str(event.version),
            printable(brief(event.causation_id)),
        )
    terminal.print(shown)


def _print_rows(terminal: Terminal, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    terminal.print_line(f"{title}, {counted(len(rows), 'row')}", "italic")
    if rows:
        shown = table(*rows[0])
        for row in rows:
            shown.add_row(*map(_cell, row.values()))
        terminal.print(shown)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return "" if value is None else printable(brief(str(value)))
