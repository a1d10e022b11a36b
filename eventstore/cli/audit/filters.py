"""The filters of `eventstore audit search` and `audit export`, as options."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from eventstore.audit import SearchAudit
from eventstore.cli.audit.times import parse_time
from eventstore.cli.options import MadeBy
from eventstore.messages.envelope import utc_now


class Kinds(Enum):
    """The kinds of entries."""

    command = "command"
    event = "event"


class Statuses(Enum):
    """The statuses of a command's outcome."""

    success = "success"
    rejected = "rejected"
    error = "error"


_Kind = Annotated[Kinds | None, typer.Option("--kind", help="Only this kind.", show_default=False)]
_MessageType = Annotated[
    str | None, typer.Option("--type", metavar="NAME", help="For example FlakeInputAdded.")
]
_Aggregate = Annotated[
    str | None, typer.Option("--aggregate", metavar="NAME", help="For example flake.")
]
_AggregateId = Annotated[str | None, typer.Option("--id", metavar="ID", help="The aggregate's id.")]
_Actor = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="On whose behalf, as claimed by the sender."),
]
_Correlation = Annotated[
    str | None, typer.Option("--correlation", metavar="UUID", help="Only this correlation.")
]
_Status = Annotated[
    Statuses | None,
    typer.Option("--status", help="Only commands with this outcome.", show_default=False),
]
_Since = Annotated[
    str | None,
    typer.Option(
        "--since", metavar="TIME", help="From an RFC 3339 time, a date (UTC), or an age: 2h, 3d."
    ),
]
_Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Before this time, in the same formats."),
]


def _query(
    kind: _Kind = None,
    message_type: _MessageType = None,
    aggregate: _Aggregate = None,
    aggregate_id: _AggregateId = None,
    actor: _Actor = None,
    correlation: _Correlation = None,
    status: _Status = None,
    since: _Since = None,
    until: _Until = None,
) -> SearchAudit:
    """The query for these filters; raises `typer.BadParameter` for a time that is none."""
    now = utc_now()
    return SearchAudit(
        kind=kind.value if kind else None,
        type=message_type,
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        actor=actor,
        correlation_id=correlation,
        status=status.value if status else None,
        since=parse_time(since, "--since", now),
        until=parse_time(until, "--until", now),
    )


Matching = Annotated[SearchAudit, MadeBy(_query)]
"""A query for the entries that match the filters given."""
