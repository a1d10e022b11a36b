"""`eventstore recover`: make everything beside the log fit a log that went back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import msgspec
import typer

from eventstore import recovery
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal, program, say_json
from eventstore.cli.read_models import is_there, read_model
from eventstore.cli.session import Session
from eventstore.client.client import Client
from eventstore.errors import RecoveryRefused
from eventstore.jetstream.topology import declare, topology
from eventstore.messages.text import counted
from eventstore.projections.database.database import Database
from eventstore.recovery import RecoveryPlan, RecoverySummary, plan_recovery
from eventstore.recovery.evidence import read_checkpoints
from eventstore.store.store import EventStore

_SHOWN = 5


async def recover(
    session: ReadModelSession,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    new_log: Annotated[
        bool, typer.Option("--new-log", help="Then begin with an empty log, if it is gone.")
    ] = False,
    json: Json = False,
) -> None:
    """Recover from a log that went back, or is gone.

    Compares the outcomes of commands, published events, snapshots and read models with the log, and
    prints what the log no longer has. That is all, unless it is told to go on (--yes): outcomes
    without events and snapshots from beyond are removed then, events that were passed over are
    published, the feed goes on after what is published, and read models are rebuilt. What was
    published stays published, and is listed. Services that have halted begin by themselves
    afterwards. With --json, everything is listed. Ends with status 0, or 2 for an error.
    """
    terminal = Terminal(stderr=True)
    async with AsyncExitStack() as stack:
        database = await _database(session, stack)
        client = await stack.enter_async_context(session.connect())
        plan = await _plan(session, client, database, terminal)
        done = None
        if plan.is_missing and yes and not new_log:
            raise RecoveryRefused(
                f"the log {plan.log} is gone: restore it, or import a backup, and recover then; or "
                "begin with an empty log with --new-log"
            )
        if plan.is_needed and yes:
            done = await _recover(session, client, database, plan, terminal)
    if json:
        say_json({"needed": plan.is_needed, **msgspec.to_builtins(plan), "done": done})
    else:
        _print(Terminal(), plan, done)


async def _database(session: Session, stack: AsyncExitStack) -> Database | None:
    """The read model, if there is one."""
    database = read_model(session)
    if not is_there(database):
        return None
    await stack.enter_async_context(database)
    await database.migrate()
    return database


async def _plan(
    session: Session, client: Client, database: Database | None, terminal: Terminal
) -> RecoveryPlan:
    known = [] if database is None else await read_checkpoints(database, session.projections)
    with events_bar(terminal, "comparing") as advance:
        return await plan_recovery(
            client,
            session.subjects,
            known,
            lambda what, done, total: advance(done, total, what),
        )


async def _recover(
    session: Session,
    client: Client,
    database: Database | None,
    plan: RecoveryPlan,
    terminal: Terminal,
) -> RecoverySummary:
    if plan.is_missing:
        specs = topology(session.subjects, session.settings.streams, session.domain)
        await declare(client, specs, new_log=True)
    async with EventStore(client, session.codec) as store:
        with events_bar(terminal, "recovering") as advance:
            return await recovery.recover(
                client,
                store,
                plan,
                database=database,
                projections=session.projections,
                progress=lambda what, done, total: advance(done, total, what),
            )


def _print(terminal: Terminal, plan: RecoveryPlan, done: RecoverySummary | None) -> None:
    if not plan.is_needed:
        terminal.print_line(
            f"nothing to recover: {plan.log} has, up to position {plan.end:,}, all that was seen "
            "of it"
        )
        return
    terminal.print_line(_where(plan))
    for what, listed in _findings(plan):
        terminal.print_line(f"  {what}{_listed(listed)}")
    for note in _notes(plan):
        terminal.print_line(f"  {note}")
    if done is None:
        flags = "--yes --new-log" if plan.is_missing else "--yes"
        terminal.print_line(f"Nothing was changed. `{program()} recover {flags}` does it.")
    else:
        terminal.print_line(
            f"recovered: {counted(done.outcomes, 'outcome')} and "
            f"{counted(done.snapshots, 'snapshot')} removed, {counted(done.published, 'event')} "
            f"published, rebuilt: {', '.join(done.read_models) or 'nothing'}"
        )


def _where(plan: RecoveryPlan) -> str:
    if plan.is_missing:
        return f"the log {plan.log} is gone"
    return (
        f"the log {plan.log} went back: it is what it was up to position {plan.position:,}, and "
        f"now ends at {plan.end:,}"
    )


def _findings(plan: RecoveryPlan) -> list[tuple[str, Sequence[str]]]:
    """What is not in the log, with what is done about it, and its list."""
    found = [
        (f"outcomes without events, removed: {len(plan.outcomes):,}", _outcomes(plan)),
        (
            f"published events that are gone, which stay published: {len(plan.published):,}",
            [f"{each.type} {each.event_id}" for each in plan.published],
        ),
        (
            f"events that were passed over, published now: {len(plan.unpublished):,}",
            [f"position {each}" for each in plan.unpublished],
        ),
        (
            f"snapshots from beyond, removed: {len(plan.snapshots):,}",
            [each.key for each in plan.snapshots],
        ),
        (
            f"read models of another history, rebuilt: {len(plan.read_models):,}",
            [f"{each.name} at {each.position:,}" for each in plan.read_models],
        ),
        (
            f"commands rejected because of events that are gone, which stay rejected: "
            f"{len(plan.rejections):,}",
            plan.rejections,
        ),
    ]
    return [(what, listed) for what, listed in found if listed]


def _outcomes(plan: RecoveryPlan) -> list[str]:
    return [f"{each.command_id} on {each.aggregate} {each.aggregate_id}" for each in plan.outcomes]


def _notes(plan: RecoveryPlan) -> list[str]:
    """What is left to a person."""
    notes = [
        f"subscriber {each.name} has handled events up to {each.position:,}: if it records what it "
        f"does in the log, as processes do, `{program()} subscriber reset {each.name} --after N` "
        f"has it handle those after N again, some before {plan.position:,}"
        for each in plan.subscribers
    ]
    if plan.timers:
        notes.append(
            f"{counted(plan.timers, 'timer')} may have been set by events that are gone: "
            f"`{program()} timer list`"
        )
    return notes


def _listed(listed: Sequence[str]) -> str:
    more = f", and {len(listed) - _SHOWN:,} more (--json)" if len(listed) > _SHOWN else ""
    return f": {', '.join(listed[:_SHOWN])}{more}"
