"""`eventstore projection`: the read models, with the options of each subcommand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

from eventstore.cli.loop import run
from eventstore.cli.options import (
    VAR,
    ConfigFile,
    Database,
    Directory,
    Json,
    NatsUrl,
    client_settings,
    local_settings,
    service_settings,
)
from eventstore.cli.terminal import Terminal, say

__all__ = ["projection_app"]

projection_app = typer.Typer(help="Read models: how they are, and anew.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="As list names it.")]
_Names = Annotated[list[str], typer.Argument(metavar="NAME", help="As list names them.")]

# The read side takes as long to import as all the rest, so each subcommand does it for itself.


@projection_app.command("list", short_help="Print how each projection is.")
def projection_list(
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Print how each projection is, whether a service runs or not.

    Lag is how many events of the log are missing in its rows, ? where the server is away. With
    --json each line is an object.
    """
    from eventstore.cli import projection_show, projection_status

    settings = local_settings(nats_url, config, database, directory)
    found, problem = run(projection_status.statuses(settings))
    if not json:
        projection_show.print_statuses(Terminal(), found, problem)
        return
    for each in found:
        say(msgspec.json.encode(each).decode())


@projection_app.command("show", short_help="Print everything of one projection.")
def projection_details(
    name: _Name,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Print everything of one: its tables, its checkpoint, its events, and what is parked."""
    from eventstore.cli import projection_show, projection_status

    settings = local_settings(nats_url, config, database, directory)
    projection = projection_status.projection_named(name)
    found = run(projection_status.details(settings, projection))
    if json:
        say(projection_show.details_json(found))
    else:
        projection_show.print_details(Terminal(), found)


@projection_app.command("rebuild", short_help="Build projections anew, without a gap.")
def projection_rebuild(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="As list names them.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    anew: Annotated[
        bool, typer.Option("--restart", help="Begin anew what a rebuild has left unfinished.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Throw away what was left, and build nothing.")
    ] = False,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Build the rows of projections anew from the log, and switch when they are complete.

    Until then queries are answered from the old rows, which a running service keeps up to date.
    After Ctrl-C or a crash the next rebuild goes on where this one was. With --json each line is
    an object, one for each projection.
    """
    from eventstore.cli import projection_status, rebuilding
    from eventstore.cli.read_models import read_models

    if bool(names) == every:
        raise typer.BadParameter("name projections, or give --all", param_hint="NAME")
    if anew and discard:
        raise typer.BadParameter("--restart and --discard exclude each other", param_hint="")
    settings = local_settings(nats_url, config, database, directory)
    wanted = projection_status.projections_named(names) if names else [*read_models()]
    if discard:
        dropped = run(rebuilding.discard(settings, wanted))
        say(f"discarded: {', '.join(dropped) or 'nothing was left'}")
        return
    console = Terminal(stderr=json)

    def done(rebuilt: Struct) -> None:
        if json:
            say(msgspec.json.encode(rebuilt).decode())

    run(rebuilding.rebuild_all(settings, directory, wanted, console, anew=anew, done=done))


@projection_app.command("pause", short_help="Have projections stand still.")
def projection_pause(
    names: _Names,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Have projections stand still in all services, until they are resumed."""
    from eventstore.cli import projection_control, projection_status

    settings = client_settings(nats_url, config, directory)
    wanted = projection_status.projections_named(names)
    say(_paused_line(run(projection_control.pause(settings, wanted))))


@projection_app.command("resume", short_help="Have projections go on.")
def projection_resume(
    names: _Names,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Have projections go on that are paused, or that have failed: those try again."""
    from eventstore.cli import projection_control, projection_status

    settings = local_settings(nats_url, config, database, directory)
    wanted = projection_status.projections_named(names)
    retried, paused = run(projection_control.resume(settings, wanted))
    for name in retried:
        say(f"{name} had failed, and tries again")
    say(_paused_line(paused))


@projection_app.command("reset", short_help="Empty a projection's tables.")
def projection_reset(
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Delete all rows of a projection; a service builds them again from the beginning.

    Until it has, queries find little or nothing: rebuild is the one without a gap.
    """
    from eventstore.cli import projection_control, projection_status

    settings = service_settings(None, config, database, directory)
    projection = projection_status.projection_named(name)
    if not yes:
        count = run(projection_control.count_rows(settings, projection))
        typer.confirm(f"delete all {count:,} rows of {name}?", abort=True)
    deleted = run(projection_control.reset_rows(settings, projection))
    say(f"reset: {name}, {deleted:,} rows deleted")


@projection_app.command("parked", short_help="Print what a projection has parked.")
def parked_list(
    name: _Name,
    json: Json = False,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Print the events that are missing in a projection's rows, oldest first, and why.

    One that could not be taken has an error; later ones of its aggregate wait behind it. With
    --json each line is an object.
    """
    from eventstore.cli import projection_parked, projection_show, projection_status

    settings = service_settings(None, config, database, directory)
    projection = projection_status.projection_named(name)
    line = projection_show.parked_json if json else projection_show.parked_line
    found = run(projection_parked.parked_events(settings, projection))
    for each in found:
        say(line(each))
    if not found and not json:
        Terminal(stderr=True).print(f"nothing is parked in {name}")


@projection_app.command("retry", short_help="Apply what is parked once more.")
def parked_retry(
    name: _Name,
    position: Annotated[
        int | None,
        typer.Argument(metavar="POSITION", min=1, help="Only this event's aggregate."),
    ] = None,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Apply parked events by the code as it is now, in the order of each aggregate.

    Ends with status 0, 1 if some stay parked, 2 for an error.
    """
    from eventstore.cli import projection_parked, projection_show, projection_status

    settings = local_settings(nats_url, config, database, directory)
    projection = projection_status.projection_named(name)
    result = run(projection_parked.retry(settings, directory, projection, position))
    say(f"{len(result.retried)} applied, {len(result.left)} left")
    for each in result.left:
        say(projection_show.parked_line(each))
    raise typer.Exit(1 if result.left else 0)


@projection_app.command("discard", short_help="Give a parked event up.")
def parked_discard(
    name: _Name,
    position: Annotated[
        int, typer.Argument(metavar="POSITION", min=1, help="That parked begins with.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: ConfigFile = None,
    database: Database = None,
    directory: Directory = VAR,
) -> None:
    """Give a parked event up for good: it stays missing in the rows, and in the log it stays.

    What waits behind it stays parked until retry.
    """
    from eventstore.cli import projection_parked, projection_show, projection_status

    settings = service_settings(None, config, database, directory)
    projection = projection_status.projection_named(name)
    if not yes:
        found = run(projection_parked.parked_event(settings, projection, position))
        say(projection_show.parked_line(found))
        typer.confirm(f"give up the event at {position:,} in {name} for good?", abort=True)
    run(projection_parked.discard(settings, projection, position))
    say(f"discarded: {position}")


def _paused_line(names: Sequence[str]) -> str:
    return f"paused: {', '.join(names) or '(none)'}"
