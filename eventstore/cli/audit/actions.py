"""`eventstore audit actions`: what administrators have done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.text import Text

from eventstore.actions import ActionView, ListActions, list_actions
from eventstore.cli.audit.filters import Cursor, Limit, Since, Until
from eventstore.cli.options import ClientSession, Json
from eventstore.cli.output.terminal import Terminal, brief, say_json, table
from eventstore.cli.times import moment, parse_time
from eventstore.client.queries import QueryClient
from eventstore.errors import NoResponders
from eventstore.messages.envelope import utc_now
from eventstore.messages.text import printable

_STYLES = {"done": "green", "failed": "bold red", "unknown": "yellow"}


async def actions(
    session: ClientSession,
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only those of somebody, as recorded.")
    ] = None,
    action: Annotated[
        str | None, typer.Option(metavar="NAME", help="For example projection-rebuild.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What it was done to, as printed.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    after: Cursor = None,
    json: Json = False,
) -> None:
    """Print what administrators have done, newest first.

    Who retried, discarded, rebuilt, paused, configured or forgot something, in the console or by
    this command line, when, and how that ended. Answered by a running service, or else from the
    record itself. With --json it is one object: items, and next, the cursor to continue after. Ends
    with status 0 if anything was found, 1 if not, 2 for an error.
    """
    now = utc_now()
    query = ListActions(
        actor=actor,
        action=action,
        target=target,
        since=parse_time(since, "--since", now),
        until=parse_time(until, "--until", now),
        limit=limit,
        after=after,
    )
    async with session.connect() as client:
        try:
            found = (await QueryClient(client, session.subjects).ask(query)).data
        except NoResponders:
            found = await list_actions(client, session.subjects, query)
    if json:
        say_json(found)
    else:
        _print(Terminal(), found.items, found.next)
    raise typer.Exit(0 if found.items else 1)


def _print(terminal: Terminal, items: Sequence[ActionView], following: str | None) -> None:
    shown = table("time (UTC)", "by", "action", "target", "outcome")
    shown.columns[0].no_wrap = True
    for each in items:
        code = "" if each.code is None else f" ({each.code})"
        shown.add_row(
            moment(each.time),
            printable(each.actor if each.user is None else f"{each.actor} ({each.user})"),
            printable(each.action),
            printable(brief(each.target)),
            Text(printable(f"{each.status}{code}"), style=_STYLES[each.status]),
        )
    if items:
        terminal.print(shown)
    else:
        terminal.print_line("nothing found")
    if following is not None:
        terminal.print_line(f"there is more: --after {following}")
