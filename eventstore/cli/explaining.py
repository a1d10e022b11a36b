"""The subcommands of `audit` that explain: `trace`, `history`, `search`, `export`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from eventstore.audit import SearchAudit, TraceCorrelation
from eventstore.cli.loop import run
from eventstore.cli.moments import parse_at, parse_moment
from eventstore.cli.options import (
    VAR,
    ConfigFile,
    Database,
    Directory,
    Json,
    NatsUrl,
    client_settings,
    service_settings,
)
from eventstore.cli.terminal import Terminal, say
from eventstore.config import Settings
from eventstore.messages.envelope import utc_now
from eventstore.messages.queries import MOST_ITEMS

__all__ = ["export", "history", "search", "trace"]


class Kinds(Enum):
    """The kinds of entries."""

    command = "command"
    event = "event"


class Statuses(Enum):
    """What can become of a command."""

    success = "success"
    rejected = "rejected"
    error = "error"


class Formats(Enum):
    """The forms of an export."""

    jsonl = "jsonl"
    csv = "csv"


_Kind = Annotated[Kinds | None, typer.Option("--kind", help="Only these.", show_default=False)]
_Type = Annotated[
    str | None, typer.Option("--type", metavar="NAME", help="For example FlakeInputAdded.")
]
_Aggregate = Annotated[
    str | None, typer.Option("--aggregate", metavar="NAME", help="For example flake.")
]
_Id = Annotated[str | None, typer.Option("--id", metavar="ID", help="The aggregate's id.")]
_Actor = Annotated[
    str | None,
    typer.Option(
        "--actor", metavar="NAME", help="On whose behalf it was done, as the sender said."
    ),
]
_Correlation = Annotated[
    str | None, typer.Option("--correlation", metavar="UUID", help="Only of this story.")
]
_Status = Annotated[
    Statuses | None,
    typer.Option("--status", help="Only commands that ended so.", show_default=False),
]
_Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="From then on: an RFC 3339 time, a date (UTC), or 2h, 3d."
    ),
]
_Until = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Before then, written alike.")
]


def trace(
    asked: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Of a command, an event or a story; its first eight characters will do.",
        ),
    ],
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="At most so many messages.")
    ] = 200,
    depth: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="At most so many causes deep.")
    ] = None,
    unverified: Annotated[
        bool, typer.Option("--no-verify", help="Do not look whether the record was touched.")
    ] = False,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Tell the whole story that a message belongs to, as a tree of causes.

    Who did what, what it led to, what was rejected; and whether the record was touched. Answered
    from the read model that `eventstore serve` keeps, or by the service itself where there is none
    here. Ends with status 0, 1 if the record is broken, 2 for an error.
    """
    from eventstore.cli import audit_trace

    settings = _settings(nats_url, config, database, directory)
    query = TraceCorrelation(id=asked, limit=limit, depth=depth)
    told = run(audit_trace.trace(settings, query, verify=not unverified))
    if json:
        say(msgspec.json.encode(told.to_dict()).decode())
    else:
        audit_trace.print_told(Terminal(), told)
    raise typer.Exit(1 if told.is_broken else 0)


def history(
    aggregate: Annotated[str, typer.Argument(metavar="AGGREGATE", help="For example flake")],
    aggregate_id: Annotated[str, typer.Argument(metavar="ID", help="The aggregate's id.")],
    at: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TIME", help="Up to then: a version, an RFC 3339 time, a date, or 2h."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="At most so many events, the last ones.")
    ] = 50,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Tell what happened to an aggregate: each event, what it changed, and the state then.

    Read from the log itself; where this user may not, the service is asked. Ends with status 0, 1
    if the record is broken or an event of it cannot be read, 2 for an error.
    """
    from eventstore.cli import audit_history

    moment = parse_at(at, "--at", utc_now())
    settings = client_settings(nats_url, config, directory)
    found = run(audit_history.history(settings, aggregate, aggregate_id, at=moment, limit=limit))
    if json:
        say(msgspec.json.encode(found).decode())
    else:
        audit_history.print_history(Terminal(), found)
    raise typer.Exit(0 if found.chain.verified and found.stopped is None else 1)


def search(
    kind: _Kind = None,
    message_type: _Type = None,
    aggregate: _Aggregate = None,
    aggregate_id: _Id = None,
    actor: _Actor = None,
    correlation: _Correlation = None,
    status: _Status = None,
    since: _Since = None,
    until: _Until = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST_ITEMS, help="At most so many.")
    ] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on where the last answer ended.")
    ] = None,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Find events and commands, the newest first.

    Answered from the read model that `eventstore serve` keeps, or by the service itself where
    there is none here. With --json it is one object: position, items, and next, the cursor to go
    on after. Ends with status 0 if anything was found, 1 if not, 2 for an error.
    """
    from eventstore.cli import audit_search

    wanted = _wanted(
        kind, message_type, aggregate, aggregate_id, actor, correlation, status, since, until
    )
    settings = _settings(nats_url, config, database, directory)
    query = msgspec.structs.replace(
        wanted, order="oldest" if oldest else "newest", limit=limit, after=after
    )
    found = run(audit_search.search(settings, query))
    if json:
        say(msgspec.json.encode(found.to_dict()).decode())
    else:
        audit_search.print_found(Terminal(), found)
    raise typer.Exit(0 if found.found.items else 1)


def export(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Written whole or not at all.  [default: stdout]"
        ),
    ] = None,
    form: Annotated[
        Formats | None,
        typer.Option("--format", help="[default: by the file's name, or jsonl]"),
    ] = None,
    payload: Annotated[
        bool, typer.Option("--payload", help="With the events' payloads, from the log.")
    ] = False,
    kind: _Kind = None,
    message_type: _Type = None,
    aggregate: _Aggregate = None,
    aggregate_id: _Id = None,
    actor: _Actor = None,
    correlation: _Correlation = None,
    status: _Status = None,
    since: _Since = None,
    until: _Until = None,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Write events and commands as JSON Lines or CSV, all columns, the oldest first.

    In CSV, a text that a spreadsheet would take for a formula has an apostrophe before it.

    Answered from the read model that `eventstore serve` keeps. Ends with status 0, 2 for an error.
    """
    from eventstore.cli import audit_export

    wanted = _wanted(
        kind, message_type, aggregate, aggregate_id, actor, correlation, status, since, until
    )
    settings = _settings(nats_url, config, database, directory)
    is_csv = form is Formats.csv if form else output is not None and output.suffix == ".csv"
    count = run(
        audit_export.export(
            settings, wanted, output, is_csv=is_csv, payload=payload, console=Terminal(stderr=True)
        )
    )
    if output is not None:
        say(f"{count:,} events and commands written to {output}")


def _settings(
    nats_url: str | None, config: Path | None, database: str | None, directory: Path
) -> Settings:
    """The read model as of `serve`, and the server as of every other subcommand."""
    settings = service_settings(nats_url, config, database, directory)
    return msgspec.structs.replace(settings, nats=client_settings(nats_url, config, directory).nats)


def _wanted(
    kind: Kinds | None,
    message_type: str | None,
    aggregate: str | None,
    aggregate_id: str | None,
    actor: str | None,
    correlation: str | None,
    status: Statuses | None,
    since: str | None,
    until: str | None,
) -> SearchAudit:
    now = utc_now()
    return SearchAudit(
        kind=kind.value if kind else None,
        type=message_type,
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        actor=actor,
        correlation_id=correlation,
        status=status.value if status else None,
        since=parse_moment(since, "--since", now),
        until=parse_moment(until, "--until", now),
    )
