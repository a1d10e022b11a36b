"""The filters and pages of `eventstore audit`, as options."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.audit import SearchAudit
from eventstore.audit.entries import Kind, Status
from eventstore.cli.options import MadeBy
from eventstore.cli.times import parse_time
from eventstore.messages.envelope import utc_now
from eventstore.messages.queries import MAX_ITEMS

Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="From an RFC 3339 time, a date (UTC), or an age: 2h, 3d."),
]
Until = Annotated[
    str | None, typer.Option(metavar="TIME", help="Before this time, in the same formats.")
]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=MAX_ITEMS, help="At most this many.")]
Cursor = Annotated[
    str | None, typer.Option(metavar="CURSOR", help="Continue where the last answer ended.")
]


def _query(
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="Only this kind.", show_default=False)
    ] = None,
    message_type: Annotated[
        str | None, typer.Option("--type", metavar="NAME", help="For example FlakeInputAdded.")
    ] = None,
    aggregate: Annotated[
        str | None, typer.Option(metavar="NAME", help="For example flake.")
    ] = None,
    aggregate_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The aggregate's id.")
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="On whose behalf, as claimed by the sender."),
    ] = None,
    correlation: Annotated[
        str | None, typer.Option(metavar="UUID", help="Only this correlation.")
    ] = None,
    status: Annotated[
        Status | None,
        typer.Option(help="Only commands with this outcome.", show_default=False),
    ] = None,
    since: Since = None,
    until: Until = None,
) -> SearchAudit:
    """The query for these filters; raises `typer.BadParameter` for a time that is none."""
    now = utc_now()
    return SearchAudit(
        kind=kind,
        type=message_type,
        aggregate=aggregate,
        aggregate_id=aggregate_id,
        actor=actor,
        correlation_id=correlation,
        status=status,
        since=parse_time(since, "--since", now),
        until=parse_time(until, "--until", now),
    )


Matching = Annotated[SearchAudit, MadeBy(_query)]
"""A query for the entries that match the filters given."""
