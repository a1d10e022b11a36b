"""`eventstore demo`: the whole line once, from lock files to rows, and what happened on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from sqlalchemy import select

from eventstore import nix
from eventstore.cli.connecting import log_end
from eventstore.cli.importing import Executed, LockFileImport, read_files
from eventstore.cli.show import print_events, print_executed, print_rows
from eventstore.cli.terminal import program
from eventstore.cli.wiring import Service, open_service
from eventstore.config import Settings
from eventstore.messages.events import RecordedEvent
from projections.models import flake, flake_input

__all__ = ["demo"]

_CATCH_UP_SECONDS = 60.0

_GO_ON = """
Go on: keep the service running with
  {eventstore} serve
and talk to it from another terminal:
  {eventstore} send nix.cmd.flake.create --id mine \\
      --data '{{"path": "./mine", "description": "my first flake"}}'
  {eventstore} query flake list
  {eventstore} audit history flake mine
  {eventstore} nix import path/to/flake.lock"""


async def demo(settings: Settings, directory: Path, files: Sequence[Path], out: Console) -> bool:
    """Import the lock files (the samples if none is given) and show it; True if all succeeded."""
    flakes = read_files(files or nix.samples())
    _heading(out, "1. A server and the service")
    async with open_service(settings, directory) as service:
        client = service.app.client
        place = "" if settings.nats.url else f", its data in {directory / 'nats'}"
        out.print(f"nats-server {client.server_version} on {client.url}{place}", soft_wrap=True)
        codec = service.app.domain.codec
        known = await log_end(client, codec)
        importing = LockFileImport(client, codec, service.app.commands)
        imported = await importing.run(flakes, out)
        executed = [pair for each in imported for pair in each.executed]
        outcomes = [outcome for _, outcome in executed if outcome is not None]
        position = max([known, *(outcome.position for outcome in outcomes)])
        await service.projections.wait(position, _CATCH_UP_SECONDS)
        await _show(out, service, executed, known)
    return all(outcome.status == "success" for outcome in outcomes)


async def _show(out: Console, service: Service, executed: Sequence[Executed], known: int) -> None:
    _heading(out, "\n2. The commands and their outcomes")
    print_executed(out, executed, known)
    _heading(out, "\n3. The events in JetStream, each caused by a command")
    print_events(out, await _events(service, executed))
    _heading(out, f"\n4. The read model in {service.database.name}")
    await _show_rows(out, service, executed)
    out.print(_GO_ON.format(eventstore=program()), soft_wrap=True)


def _heading(out: Console, text: str) -> None:
    out.print(text, style="bold", soft_wrap=True)


async def _events(service: Service, executed: Sequence[Executed]) -> list[RecordedEvent]:
    aggregates = dict.fromkeys(imported.aggregate_id for imported, _ in executed)
    events = [event for each in aggregates async for event in service.app.store.read("flake", each)]
    return sorted(events, key=lambda event: event.position)


async def _show_rows(out: Console, service: Service, executed: Sequence[Executed]) -> None:
    ids = {imported.aggregate_id for imported, _ in executed}
    flakes = select(*flake.c["id", "path", "version", "updated_at"])
    inputs = select(*flake_input.c["flake_id", "name", "url"])
    async with service.database.engine.connect() as connection:
        for name, query in (
            ("flake", flakes.where(flake.c.id.in_(ids)).order_by(flake.c.path)),
            ("flake_input", inputs.where(flake_input.c.flake_id.in_(ids)).order_by("flake_id")),
        ):
            rows = (await connection.execute(query)).mappings().all()
            print_rows(out, name, [dict(row) for row in rows])
