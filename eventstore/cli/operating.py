"""The command line for operating a domain: `command`, `parked` and `config`, with their options."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from eventstore.cli import parked as parked_commands
from eventstore.cli import show
from eventstore.cli.connecting import connected
from eventstore.cli.loop import run
from eventstore.cli.options import VAR, ConfigFile, Directory, Json, NatsUrl, client_settings
from eventstore.cli.send import EXIT_STATUS
from eventstore.cli.terminal import Terminal, printable, say
from eventstore.commands import Outcome, Outcomes
from eventstore.commands.status import UNKNOWN, status_json
from eventstore.config import Settings
from eventstore.messages.envelope import check_message_id
from eventstore.messages.subjects import Subjects
from eventstore.parking.messages import ParkedMessage, RetrySummary, UnreadableMessage
from eventstore.service.runtime_config import KEYS, RuntimeConfig, Value

__all__ = ["command_app", "config_app", "parked_app"]

_UNKNOWN_STATUS = 3

command_app = typer.Typer(help="What became of commands.", no_args_is_help=True)
parked_app = typer.Typer(help="What could not be handled, and is kept.", no_args_is_help=True)
config_app = typer.Typer(help="What can change while services run.", no_args_is_help=True)

_Sequence = Annotated[
    int, typer.Argument(metavar="SEQ", min=1, help="The number that list begins with.")
]
_Key = Annotated[str, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.")]


@command_app.command("status", short_help="Print what became of a command.")
def command_status(
    command_id: Annotated[str, typer.Argument(metavar="ID", help="The command's own id.")],
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Print what became of a command that was sent earlier.

    Ends with status 0 for success, 1 if it was rejected, 2 for an error, 3 where nothing is known
    (yet).
    """
    check_message_id(command_id)
    outcome = run(_outcome(client_settings(nats_url, config, directory), command_id))
    if json:
        say(status_json(command_id, outcome).decode())
    elif outcome is None:
        say(f"unknown: {UNKNOWN}")
    else:
        show.print_outcome(Terminal(), outcome)
    raise typer.Exit(_UNKNOWN_STATUS if outcome is None else EXIT_STATUS[outcome.status])


@parked_app.command("list", short_help="Print what is parked, oldest first.")
def parked_list(
    aggregate: Annotated[
        str | None, typer.Argument(metavar="AGGREGATE", help="For example flake")
    ] = None,
    aggregate_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only this aggregate's.")
    ] = None,
    after: Annotated[int, typer.Option(metavar="SEQ", min=0, help="Only those after it.")] = 0,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Print what is parked, one line each: number, time, subject, id, tries and reason."""
    settings = client_settings(nats_url, config, directory)
    run(parked_commands.list_parked(settings, aggregate, aggregate_id, after=after, json=json))


@parked_app.command("show", short_help="Print all of a parked message.")
def parked_show(
    sequence: _Sequence,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Print a parked message: why, where, when, how often tried, and the original."""
    _show(run(_get(client_settings(nats_url, config, directory), sequence)), json=json)


@parked_app.command("retry", short_help="Have what is parked tried again.")
def parked_retry(
    sequence: Annotated[
        int | None,
        typer.Argument(metavar="SEQ", min=1, help="The number that list begins with."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All of them, in order for each aggregate.")
    ] = False,
    out_of_order: Annotated[
        bool,
        typer.Option("--out-of-order", help="Even if an older one of its aggregate is parked."),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.001, help="For an event, and what others of --all wait for."
        ),
    ] = 30.0,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Put parked commands back on their stream; have events handled by their subscriber again.

    Commands keep their ids. An event goes to the subscriber that had failed, which must be
    running, and to no other; it stays parked unless that succeeds within the time, or later.

    Ends with status 0, 1 if some of --all stay parked, 2 for an error.
    """
    if (sequence is None) != every:
        raise typer.BadParameter("name one message, or give --all", param_hint="SEQ")
    settings = client_settings(nats_url, config, directory)
    if sequence is not None:
        message = run(_retry(settings, sequence, out_of_order=out_of_order, timeout=timeout))
        say(printable(parked_commands.retried_line(message)))
        return
    result = run(_retry_all(settings, timeout))
    parked_commands.print_retried(Terminal(), result)
    raise typer.Exit(1 if result.left else 0)


@parked_app.command("discard", short_help="Throw a parked message away.")
def parked_discard(
    sequence: _Sequence,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Throw a parked message away for good; shows it, and asks first."""
    settings = client_settings(nats_url, config, directory)
    if not yes:
        _show(run(_get(settings, sequence)), json=False)
        typer.confirm("discard it for good?", abort=True)
    run(_discard(settings, sequence))
    say(f"discarded: {sequence}")


@config_app.command("get", short_help="Print what is set.")
def config_get(
    key: Annotated[
        str | None, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.")
    ] = None,
    json: Json = False,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Print one key, or all; where one is not set, what each service was started with counts."""
    found = run(_configured(client_settings(nats_url, config, directory), key))
    if json:
        say(msgspec.json.encode(found if key is None else found[key]).decode())
        return
    for name, value in found.items():
        about = "" if key is not None else f"  ({KEYS[name].meaning})"
        say(printable(f"{name} = {_shown(value)}{about}"))


@config_app.command("set", short_help="Set a key, for all services of the domain.")
def config_set(
    key: _Key,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As text or as JSON.")],
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Set a key; the services of the domain take it up while they run."""
    kept = run(_set(client_settings(nats_url, config, directory), key, value))
    say(printable(f"{key} = {_shown(kept)}"))


@config_app.command("unset", short_help="Have a key no longer set.")
def config_unset(
    key: _Key,
    nats_url: NatsUrl = None,
    config: ConfigFile = None,
    directory: Directory = VAR,
) -> None:
    """Have a key no longer set, so that what each service was started with counts again."""
    run(_unset(client_settings(nats_url, config, directory), key))
    say(f"{key} is not set")


async def _outcome(settings: Settings, command_id: str) -> Outcome | None:
    async with connected(settings) as client:
        return await Outcomes(client, _subjects(settings)).get(command_id)


async def _get(settings: Settings, sequence: int) -> ParkedMessage | UnreadableMessage:
    async with parked_commands.opened_parked(settings) as parked:
        return await parked.find(sequence)


async def _retry(
    settings: Settings, sequence: int, *, out_of_order: bool, timeout: float
) -> ParkedMessage:
    async with parked_commands.opened_parked(settings) as parked:
        return await parked.retry(sequence, out_of_order=out_of_order, timeout=timeout)


async def _retry_all(settings: Settings, timeout: float) -> RetrySummary:
    async with parked_commands.opened_parked(settings) as parked:
        return await parked.retry_all(timeout=timeout)


async def _discard(settings: Settings, sequence: int) -> None:
    async with parked_commands.opened_parked(settings) as parked:
        await parked.discard(sequence)


async def _configured(settings: Settings, key: str | None) -> dict[str, Value | None]:
    async with connected(settings) as client:
        configuration = RuntimeConfig(client, _subjects(settings))
        return await configuration.get_all() if key is None else {key: await configuration.get(key)}


async def _set(settings: Settings, key: str, text: str) -> Value:
    async with connected(settings) as client:
        return await RuntimeConfig(client, _subjects(settings)).set(key, text)


async def _unset(settings: Settings, key: str) -> None:
    async with connected(settings) as client:
        await RuntimeConfig(client, _subjects(settings)).unset(key)


def _subjects(settings: Settings) -> Subjects:
    return Subjects(settings.nats.subject_prefix)


def _show(message: ParkedMessage | UnreadableMessage, *, json: bool) -> None:
    if json:
        say(parked_commands.parked_json(message))
    else:
        parked_commands.print_parked(Terminal(), message)


def _shown(value: Value | None) -> str:
    if value is None:
        return "(not set)"
    return ", ".join(value) or "(none)" if isinstance(value, list) else str(value)
