"""`eventstore demo`: the whole line once, from lock files to rows, and what happened on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from sqlalchemy import select

from eventstore import nix
from eventstore.cli.importing import Executed, execute_all, read_files
from eventstore.cli.show import print_events, print_executed, print_rows
from eventstore.cli.wiring import Service, open_server, open_service
from eventstore.config import Settings
from eventstore.envelope import RecordedEvent
from projections.nix.models import flake, flake_input

__all__ = ["demo"]


async def demo(settings: Settings, data: Path, files: Sequence[Path], console: Console) -> bool:
    """Import the lock files (the samples if none is given) and show it; True if all succeeded."""
    lock_files = read_files(files or nix.samples())
    console.print(f"[bold]1.[/] starting a server and the service, data in {data}/")
    async with open_server(settings, data) as named, open_service(named) as service:
        client = service.app.client
        console.print(f"   {client.url}, nats-server {client.server_version}")
        known = service.projections.position
        executed = await execute_all(service.app.commands, lock_files, console)
        await service.projections.wait(max(outcome.position for _, outcome in executed))
        await _show(console, service, executed, known)
    return all(outcome.status == "success" for _, outcome in executed)


async def _show(
    console: Console, service: Service, executed: Sequence[Executed], known: int
) -> None:
    console.print("\n[bold]2. The commands and their outcomes[/]")
    print_executed(console, executed, known)
    console.print("\n[bold]3. The events in JetStream[/]")
    print_events(console, await _events(service, executed))
    console.print(f"\n[bold]4. The read model in {service.database.name}[/]")
    await _show_rows(console, service, executed)
    console.print(
        "\n[bold]Go on:[/] `eventstore serve` stays up; beside it, try\n"
        "  eventstore send nix.cmd.flake.create --id my-flake "
        """--data '{"path": "./my-flake", "description": "mine"}'\n"""
        "  eventstore events flake my-flake\n"
        "  eventstore nix import path/to/flake.lock",
        highlight=False,
        soft_wrap=True,
    )


async def _events(service: Service, executed: Sequence[Executed]) -> list[RecordedEvent]:
    aggregates = dict.fromkeys(imported.aggregate_id for imported, _ in executed)
    events = [event for each in aggregates async for event in service.app.store.read("flake", each)]
    return sorted(events, key=lambda event: event.position)


async def _show_rows(console: Console, service: Service, executed: Sequence[Executed]) -> None:
    ids = {imported.aggregate_id for imported, _ in executed}
    flakes = select(*flake.c["id", "path", "version", "position", "updated_at"])
    inputs = select(*flake_input.c["flake_id", "name", "url"])
    async with service.database.engine.connect() as connection:
        for query in (
            flakes.where(flake.c.id.in_(ids)).order_by(flake.c.path),
            inputs.where(flake_input.c.flake_id.in_(ids)).order_by(flake_input.c.flake_id),
        ):
            rows = (await connection.execute(query)).mappings().all()
            print_rows(console, [dict(row) for row in rows])
            console.print()
