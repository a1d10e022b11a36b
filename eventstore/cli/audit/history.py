"""`eventstore audit history`: what happened to an aggregate, and what each event changed."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from eventstore.audit import (
    Change,
    GetHistory,
    HistoryStarts,
    HistoryView,
    StepView,
    StopView,
    aggregate_history,
)
from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.cli.times import exact_moment, parse_at
from eventstore.client.client import Client
from eventstore.client.queries import QueryClient
from eventstore.errors import PermissionDenied
from eventstore.messages.envelope import utc_now
from eventstore.messages.text import counted
from eventstore.store.snapshots import Snapshots
from eventstore.store.store import EventStore

_MAX_VALUE = 60


async def history(
    session: ClientSession,
    aggregate: Annotated[str, typer.Argument(metavar="AGGREGATE", help="For example flake")],
    aggregate_id: Annotated[str, typer.Argument(metavar="ID", help="The aggregate's id.")],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TIME", help="As of a version, an RFC 3339 time, a date, or an age: 2h."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most this many events, the last ones.")
    ] = 50,
    from_snapshot: Annotated[
        bool,
        typer.Option(
            "--from-snapshot",
            help="Begin at a snapshot, if there is one: faster, and verified from there only.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Print what happened to an aggregate.

    Each event, what it changed, and the state it led to, read from the log itself; a user who may
    not read that asks the service. All of it is read and verified, unless --from-snapshot is given.
    Ends with status 0, 1 if the record is broken or an event of it
    cannot be read, 2 for an error.
    """
    until = parse_at(at, "--at", utc_now())
    async with session.connect() as client:
        try:
            starts = _snapshots(session, client) if from_snapshot else None
            found = await aggregate_history(
                *(client, session.domain, aggregate, aggregate_id),
                at=until,
                limit=limit,
                starts=starts,
            )
        except PermissionDenied:
            query = GetHistory(
                aggregate=aggregate,
                id=aggregate_id,
                at=until,
                limit=limit,
                from_snapshot=from_snapshot,
            )
            found = (await QueryClient(client, session.subjects).ask(query)).data
    if json:
        say_json(found)
    else:
        _print(Terminal(), found)
    raise typer.Exit(0 if found.chain.problem is None and found.stopped is None else 1)


def _snapshots(session: Session, client: Client) -> HistoryStarts:
    return HistoryStarts(Snapshots(client, EventStore(client, session.codec)))


def _print(terminal: Terminal, found: HistoryView) -> None:
    name = f"{found.aggregate} {found.aggregate_id}"
    if not found.chain.events:
        terminal.print_line(f"{name} has no events")
        return
    had = f"version {found.version}" if found.version else "without events at that time"
    terminal.print_line(f"{name}, {had}", "bold")
    if found.earlier:
        earlier = counted(found.earlier, "earlier event")
        terminal.print_line(f"({earlier} not shown: give a higher --limit)")
    for step in found.steps:
        _print_step(terminal, found, step)
    if found.stopped is not None:
        _print_stop(terminal, found.stopped)
    if found.later:
        terminal.print()
        terminal.print_line(f"({counted(found.later, 'event')} came later)")
    terminal.print()
    terminal.print_line(f"state at version {found.version}", "bold")
    state = msgspec.json.format(msgspec.json.encode(found.state), indent=2).decode()
    for line in state.splitlines():
        terminal.print_line(line)
    terminal.print()
    if found.foreign:
        positions = ", ".join(map(str, found.foreign))
        terminal.print_line(f"skipped, not the store's: position {positions}", "red")
    chain = found.chain
    if chain.problem is None:
        part = "" if chain.complete else ", from a snapshot on"
        events = counted(chain.events, "event")
        terminal.print_line(f"chain verified: {events}{part}", "green")
    else:
        terminal.print_line(f"RECORD BROKEN: {chain.problem}", "bold red")


def _print_step(terminal: Terminal, found: HistoryView, step: StepView) -> None:
    by = "" if step.actor is None else f" by {step.actor}"
    if step.authenticated_as is not None:
        by += f", authenticated as {step.authenticated_as}"
    cause = "" if step.causation_id == step.id else f", caused by {step.causation_id[:8]}"
    terminal.print()
    terminal.print_line(f"v{step.version}  {exact_moment(step.time)}  {step.type}{by}{cause}")
    for change in step.changes:
        terminal.print_line(f"    {_changed(change)}")
    if step.version <= found.began:
        terminal.print_line(f"    {_value(step.data)}")
    elif step.dropped:
        terminal.print_line("    dropped by an upcaster")
    elif not step.changes:
        terminal.print_line("    does not change the state")


def _print_stop(terminal: Terminal, stop: StopView) -> None:
    terminal.print()
    name = stop.type or "an event of an unknown type"
    terminal.print_line(f"v{stop.version}  {name} at position {stop.position}", "bold red")
    terminal.print_line(f"    cannot be folded: {stop.reason}", "red")
    terminal.print_line("    the state from here on is unknown", "red")


def _changed(change: Change) -> str:
    path = ".".join(change.path) or "state"
    if change.kind == "added":
        return f"{path}: + {_value(change.after)}"
    if change.kind == "removed":
        return f"{path}: - {_value(change.before)}"
    return f"{path}: {_value(change.before)} -> {_value(change.after)}"


def _value(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"
