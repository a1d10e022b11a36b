"""`eventstore audit search`: events and commands that match filters."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from eventstore.audit import AuditEntry
from eventstore.cli.audit.filters import Cursor, Limit, Matching
from eventstore.cli.audit.index import IndexPosition, index_of, index_position
from eventstore.cli.options import Json, ReadModelSession
from eventstore.cli.output.terminal import STATUS_STYLES, Terminal, brief, say_json, table
from eventstore.cli.times import moment
from eventstore.messages.queries import Listed
from eventstore.messages.text import printable


async def search(
    session: ReadModelSession,
    wanted: Matching,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    limit: Limit = 50,
    after: Cursor = None,
    json: Json = False,
) -> None:
    """Search events and commands, newest first.

    Answered from the read model that `eventstore serve` maintains, or by the service itself if
    there is none here. With --json it is one object: position, log_end, items, and next, the cursor
    to continue after. Ends with status 0 if anything was found, 1 if not, 2 for an error.
    """
    order: Any = "oldest" if oldest else "newest"
    query = msgspec.structs.replace(wanted, order=order, limit=limit, after=after)
    async with index_of(session) as index:
        position = await index_position(index, session)
        found = await index.search(query)
    if json:
        facts = {"position": position.position, "log_end": position.end}
        say_json({**facts, "items": found.items, "next": found.next})
    else:
        _print(Terminal(), found, position)
    raise typer.Exit(0 if found.items else 1)


def _print(terminal: Terminal, found: Listed[AuditEntry], position: IndexPosition) -> None:
    if found.items:
        terminal.print(_table(found))
    else:
        terminal.print_line("nothing found")
    if found.next is not None:
        terminal.print_line(f"there is more: --after {found.next}")
    if position.about is not None:
        terminal.print_line(position.about)


def _table(found: Listed[AuditEntry]) -> Table:
    shown = table("time (UTC)", "id", "what", "aggregate", "by", "outcome")
    for column in shown.columns[:3]:
        column.no_wrap = True
    for entry in found.items:
        about = " ".join(word for word in (entry.aggregate, entry.aggregate_id) if word)
        shown.add_row(
            moment(entry.time),
            entry.id[:8],
            printable(entry.type or "(unknown)"),
            printable(brief(about)),
            printable(entry.actor or ""),
            _outcome(entry),
        )
    return shown


def _outcome(entry: AuditEntry) -> Text:
    if entry.status is None:
        return Text(f"v{entry.version}")
    code = "" if entry.status == "success" else f" ({entry.code})"
    return Text(printable(f"{entry.status}{code}"), style=STATUS_STYLES[entry.status])
