"""`eventstore projection rebuild`: rebuild projections, with or without a running service."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer
from msgspec import Struct

from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.progress import Advance, events_bar
from eventstore.cli.output.terminal import Terminal, program, say, say_json
from eventstore.cli.read_models import open_read_model, projections_named
from eventstore.cli.session import Session
from eventstore.errors import PoisonEvent, ProjectionFailed
from eventstore.projections.projection import Projection
from eventstore.projections.rebuild.rebuild import Rebuild, RebuildProgress, drop_shadow


class RebuildSummary(Struct, frozen=True):
    """A projection that was rebuilt: `events` were applied, after the position `after`."""

    projection: str
    position: int
    events: int
    after: int
    seconds: float


async def rebuild(
    session: ReadModelSession,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="As printed by list.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Rebuild all.")] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from scratch, not from an interrupted one.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Delete an interrupted rebuild, and build nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Rebuild projections from the log, without a gap.

    Until the new rows are complete, queries are answered from the old ones, which a running service
    keeps up to date. After Ctrl-C or a crash the next rebuild continues this one. With --json each
    line is an object, one for each projection.
    """
    if bool(names) == every:
        raise typer.BadParameter("name projections, or give --all", param_hint="NAME")
    if restart and discard:
        raise typer.BadParameter("--restart and --discard exclude each other", param_hint="")
    wanted = projections_named(session, names) if names else [*session.projections]
    if discard:
        dropped = await _discard(session, wanted)
        if json:
            say_json({"discarded": dropped})
        else:
            say(f"discarded: {', '.join(dropped) or 'nothing was left'}")
        return
    terminal = Terminal(stderr=json)
    target = ", ".join(each.name for each in wanted)
    async with (
        open_read_model(session) as database,
        session.open_store("projection-rebuild", target) as store,
    ):
        for each in wanted:
            with events_bar(terminal, f"{each.name}: building") as advance:
                running = Rebuild(
                    store,
                    database,
                    each,
                    from_scratch=restart,
                    on_progress=partial(_advance, advance, each.name),
                )
                rebuilt = await _rebuild(running, terminal)
            if json:
                say_json(rebuilt)


async def _discard(session: Session, projections: Sequence[Projection]) -> list[str]:
    """Delete interrupted rebuilds; the names of those that had one."""
    async with open_read_model(session) as database:
        return [each.name for each in projections if await drop_shadow(database, each)]


async def _rebuild(rebuild: Rebuild, terminal: Terminal) -> RebuildSummary:
    name = rebuild.projection.name
    began = time.monotonic()
    advice = (
        f"what was built is kept: `{program()} projection rebuild {name}` continues it, "
        "--restart starts from scratch, --discard deletes it"
    )
    try:
        position = await rebuild.run()
    except PoisonEvent as poison:
        raise ProjectionFailed(
            f"{poison}. The old rows of {name} stay; when its code can apply the event: {advice}"
        ) from poison
    except asyncio.CancelledError:
        became = "has its new rows" if rebuild.switched else f"keeps its old rows; {advice}"
        terminal.print_line(f"{name} {became}")
        raise
    seconds = round(time.monotonic() - began, 3)
    return RebuildSummary(name, position, rebuild.events, rebuild.started_at, seconds)


def _advance(advance: Advance, name: str, progress: RebuildProgress) -> None:
    total = progress.events + progress.pending
    advance(progress.events, total, f"{name}: {progress.phase}")
