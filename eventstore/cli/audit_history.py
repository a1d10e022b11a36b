"""`eventstore audit history`: what happened to one aggregate, and what each event changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from eventstore import nix
from eventstore.audit import Change, GetHistory, HistoryView, StepView, StopView, aggregate_history
from eventstore.cli.connecting import connected
from eventstore.cli.terminal import printable
from eventstore.client.queries import QueryClient
from eventstore.config import Settings
from eventstore.errors import PermissionDenied

__all__ = ["history", "print_history"]

_LONGEST_VALUE = 60


async def history(
    settings: Settings,
    aggregate: str,
    aggregate_id: str,
    *,
    at: int | datetime | None,
    limit: int,
) -> HistoryView:
    """Read it from the log, or ask the service, where this user may not read that or a key.

    Raises as `aggregate_history` does, and as `QueryClient.ask`.
    """
    domain = nix.domain(settings.nats.subject_prefix)
    async with connected(settings) as client:
        try:
            return await aggregate_history(
                client, domain, aggregate, aggregate_id, at=at, limit=limit
            )
        except PermissionDenied:
            query = GetHistory(aggregate=aggregate, id=aggregate_id, at=at, limit=limit)
            return (await QueryClient(client, domain.codec.subjects).ask(query)).data


def print_history(console: Console, found: HistoryView) -> None:
    """The events one after another, and the state they lead to."""
    name = f"{found.aggregate} {found.aggregate_id}"
    if not found.chain.events:
        _print(console, f"{name} has no events")
        return
    had = f"version {found.version}" if found.version else "which had no events then"
    _print(console, f"{name}, {had}", "bold")
    if found.earlier:
        earlier = _count(found.earlier, "earlier event")
        _print(console, f"({earlier} not shown: give a higher --limit)")
    for step in found.steps:
        _print_step(console, step)
    if found.stopped is not None:
        _print_stop(console, found.stopped)
    if found.later:
        console.print()
        _print(console, f"({_count(found.later, 'event')} came later)")
    _print(console, f"\nstate at version {found.version}", "bold")
    state = msgspec.json.format(msgspec.json.encode(found.state), indent=2).decode()
    for line in state.splitlines():
        _print(console, printable(line))
    console.print()
    if found.foreign:
        positions = ", ".join(map(str, found.foreign))
        _print(console, f"passed over, not the store's: position {positions}", "red")
    chain = found.chain
    if chain.problem is None:
        _print(console, f"chain verified: {_count(chain.events, 'event')}", "green")
    else:
        _print(console, f"RECORD BROKEN: {chain.problem}", "bold red")


def _print_step(console: Console, step: StepView) -> None:
    time = step.time.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    by = "" if step.actor is None else f" by {step.actor}"
    if step.authenticated_as is not None:
        by += f", sent by {step.authenticated_as} (the server says)"
    cause = "" if step.causation_id == step.id else f", caused by {step.causation_id[:8]}"
    console.print()
    _print(console, printable(f"v{step.version}  {time}  {step.type}{by}{cause}"))
    for change in step.changes:
        _print(console, f"    {printable(_changed(change))}")
    if step.dropped:
        _print(console, "    read as nothing: an upcaster drops it")
    elif not step.changes:
        _print(console, "    changes nothing in the state")


def _print_stop(console: Console, stop: StopView) -> None:
    console.print()
    name = stop.type or "an event of an unknown type"
    _print(console, printable(f"v{stop.version}  {name} at position {stop.position}"), "bold red")
    _print(console, printable(f"    cannot be folded: {stop.reason}"), "red")
    _print(console, "    the state from here on is not known", "red")


def _changed(change: Change) -> str:
    path = ".".join(change.path) or "state"
    if change.kind == "added":
        return f"{path}: + {_value(change.after)}"
    if change.kind == "removed":
        return f"{path}: - {_value(change.before)}"
    return f"{path}: {_value(change.before)} -> {_value(change.after)}"


def _value(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _print(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
