"""`eventstore audit trace`: a correlation as a tree, and whether its record was changed."""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.audit import TraceCorrelation
from eventstore.audit.chain_check import ChainReport
from eventstore.audit.tree_check import check_tree
from eventstore.cli.audit.index import IndexPosition, index_of
from eventstore.cli.audit.trace_output import Trace, print_trace
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.cli.session import Session
from eventstore.errors import ClientError, StreamMissing
from eventstore.jetstream.api import log_end
from eventstore.jetstream.direct_get import SEARCH_SECONDS, DirectReader


async def trace(
    session: ReadModelSession,
    message_id: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The id of a command, event or correlation; its first 8 characters suffice.",
        ),
    ],
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="At most this many messages.")
    ] = 200,
    depth: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The maximum depth of the tree.")
    ] = None,
    unverified: Annotated[
        bool, typer.Option("--no-verify", help="Do not check whether the record was changed.")
    ] = False,
    json: Json = False,
) -> None:
    """Print a correlation as a tree of causes and effects.

    Who did what, what it led to, what was rejected; and whether the record was changed. Answered
    from the read model that `eventstore serve` maintains, or by the service itself if there is none
    here. Ends with status 0, 1 if the record is broken, 2 for an error.
    """
    query = TraceCorrelation(id=message_id, limit=limit, depth=depth)
    found = await _trace(session, query, verify=not unverified)
    if json:
        say_json(found.to_dict())
    else:
        print_trace(Terminal(), found)
    raise typer.Exit(1 if found.is_broken else 0)


async def _trace(session: Session, query: TraceCorrelation, *, verify: bool) -> Trace:
    """Query the index, and check the chains of the aggregates in the log.

    If the log cannot be reached, the trace is unverified. Raises `QueryNotFound` and
    `NoAuditIndex`.
    """
    async with index_of(session) as index:
        position = await index.position()
        tree = await index.trace(query)
    chains: tuple[ChainReport, ...] = ()
    try:
        async with session.connect() as client:
            end = await log_end(client, session.subjects)
            if verify:
                log = session.subjects.log_stream
                reader = DirectReader(client, log, timeout=SEARCH_SECONDS)
                chains = await check_tree(reader, session.subjects, tree)
    except (ClientError, StreamMissing) as error:
        why = str(error) if verify else None
        return Trace(tree=tree, index=IndexPosition(position, None), unverified=why)
    return Trace(tree=tree, index=IndexPosition(position, end), chains=chains)
