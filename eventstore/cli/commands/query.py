"""`eventstore query`: a subcommand for each query of the domain, made from the query's own type.

The fields become arguments (if they are required) and options, with the help of their annotations;
the class's docstring is the help of the subcommand.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer
from typer.core import TyperGroup

from eventstore.cli.applications import find_application
from eventstore.cli.options import ClientSession, Json, Timeout, as_command
from eventstore.cli.query.answers import Output
from eventstore.cli.query.fields import field_parameters, flags, parameter, take_query
from eventstore.cli.session import Session
from eventstore.client.queries import QueryClient
from eventstore.errors import QueryNotFound
from eventstore.messages.queries import DEFAULT_ITEMS, MAX_ITEMS, ListQuery, Query
from eventstore.messages.text import printable

_NOT_FOUND = 1
_HELP = ("--help", "-h")
_SESSION = get_args(ClientSession)[1].options()

_Every = Annotated[
    bool,
    typer.Option("--all", help="All items, in as many answers as needed."),
]
_WaitFor = Annotated[
    int | None,
    typer.Option(
        "--wait",
        metavar="POSITION",
        min=0,
        help="Wait until the read model has reached the position, such as an outcome's.",
    ),
]
_GET = "Ends with status 0, 1 if it is not found, 2 for an error."
_JSON_GET = "With --json, prints one object on standard output and its position on standard error."
_JSON_LIST = (
    "The table leaves out columns that do not fit. With --json, prints one whole object a line on "
    "standard output, and at the end one with the position and the next cursor on standard error."
)


class _Actions(TyperGroup):
    """The queries about one kind of aggregate; underscores in their names are accepted, too."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, cmd_name.replace("_", "-"))


class _Aggregates(TyperGroup):
    """The kinds of aggregates; the help lists the queries about all of them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        queries = [
            (f"{name} {action}", command.get_short_help_str())
            for name, group in self.commands.items()
            if isinstance(group, TyperGroup)
            for action, command in group.commands.items()
        ]
        with formatter.section("Commands"):
            if queries:
                formatter.write_dl(queries)
            else:
                formatter.write_text("none: the application answers no queries")


def commands_of(queries: Iterable[type[Query[Any]]]) -> typer.Typer:
    """A subcommand for each of the queries."""
    app = typer.Typer(
        cls=_Aggregates,
        help="Query a read model of a running service.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_nothing)  # a group, even if the application answers no queries
    groups: dict[str, typer.Typer] = {}
    for query in queries:
        aggregate = query.__aggregate__
        if aggregate not in groups:
            about = f"Query {aggregate}s."
            groups[aggregate] = typer.Typer(cls=_Actions, help=about, no_args_is_help=True)
            app.add_typer(groups[aggregate], name=aggregate)
        _add(groups[aggregate], query)
    return app


def _nothing() -> None:
    pass


def _add(app: typer.Typer, query: type[Query[Any]]) -> None:
    is_list = issubclass(query, ListQuery)
    about = inspect.getdoc(query) or ""
    command = app.command(
        query.__action__.replace("_", "-"),
        short_help=about.partition("\n")[0],
        help="\n\n".join((about, _GET, _JSON_LIST if is_list else _JSON_GET)),
    )

    async def ask(session: Session, **given: Any) -> None:
        every = given.pop("every", False)
        wait_for, timeout = given.pop("wait_for"), given.pop("timeout")
        output = Output(json=given.pop("json"))
        filled = take_query(query, given)
        try:
            await _ask(session, filled, output, every=every, wait_for=wait_for, timeout=timeout)
        except QueryNotFound as error:
            typer.secho(printable(f"not found: {error}"), err=True, fg="yellow")
            raise typer.Exit(_NOT_FOUND) from None

    session = parameter("session", ClientSession, inspect.Parameter.empty)
    options = [
        *([parameter("every", _Every, False)] if is_list else []),
        parameter("wait_for", _WaitFor, None),
        parameter("timeout", Timeout, 5.0),
        parameter("json", Json, False),
    ]
    taken = [*_HELP, *(flag for each in (*options, *_SESSION) for flag in flags(each))]
    parameters = [session, *field_parameters(query, taken), *options]
    ask.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command(as_command(ask))


async def _ask(
    session: Session,
    query: Query[Any],
    output: Output,
    *,
    every: bool,
    wait_for: int | None,
    timeout: float,
) -> None:
    """Ask, and print each answer as it comes, as long as somebody reads."""
    async with session.connect() as client:
        queries = QueryClient(client, session.subjects)
        if not every or not isinstance(query, ListQuery):
            output.show(await queries.ask(query, wait_for=wait_for, timeout=timeout))
            return
        limit = MAX_ITEMS if query.limit == DEFAULT_ITEMS else query.limit
        large = msgspec.structs.replace(query, limit=limit)
        parts = queries.parts(large, wait_for=wait_for, timeout=timeout)
        async with aclosing(parts):
            async for part in parts:
                if not output.show(part, is_last=part.data.next is None):
                    return


def query(words: Sequence[str] = ()) -> typer.Typer:
    """The subcommand, for the application that is named, also by what follows it: `--config`."""
    return commands_of(find_application(_configuration_file(words)).query_types)


def _configuration_file(words: Sequence[str]) -> Path | None:
    for word, following in pairwise([*words, ""]):
        name, has_value, value = word.partition("=")
        if name == "--config" and (value or following):
            return Path(value if has_value else following)
    return None
