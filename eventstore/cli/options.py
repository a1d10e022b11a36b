"""The options that subcommands share, and the objects that subcommands get for them.

A subcommand takes a `ClientSession` (or another of the sessions below) as its first parameter. On
the command line it has the options of that session, such as --nats-url, after all others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import msgspec
import typer
from msgspec import Struct

from eventstore.application.server import server_directory
from eventstore.cli.applications import find_application, is_named
from eventstore.cli.session import Session
from eventstore.concurrency.event_loop import run
from eventstore.config import Settings, load_settings
from eventstore.server.embedded import running_server

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", min=0.001, max=86_400.0, help="How long to wait."),
]
AggregateName = Annotated[str | None, typer.Argument(metavar="AGGREGATE", help="For example flake")]
AggregateId = Annotated[str | None, typer.Argument(metavar="ID", help="Only this aggregate's.")]


def with_retry(settings: Settings, **changes: int) -> Settings:
    """The settings with changes of `nats.retry`."""
    retry = msgspec.structs.replace(settings.nats.retry, **changes)
    nats = msgspec.structs.replace(settings.nats, retry=retry)
    return msgspec.structs.replace(settings, nats=nats)


class MadeBy(Struct, frozen=True):
    """Marks a parameter of a subcommand as made by a function from options.

    The options are the annotated parameters of the function, except for those in `fixed`, which
    has the values of them and of other parameters.
    """

    function: Callable[..., Any]
    fixed: Mapping[str, Any] = {}

    def options(self) -> list[inspect.Parameter]:
        """The options, as parameters."""
        signature = inspect.signature(self.function, eval_str=True)
        return [
            each
            for each in signature.parameters.values()
            if get_origin(each.annotation) is Annotated and each.name not in self.fixed
        ]

    def make(self, given: dict[str, Any]) -> Any:
        """Call the function with its options, which are taken out of `given`."""
        return self.function(
            **self.fixed, **{each.name: given.pop(each.name) for each in self.options()}
        )


def _session(
    nats_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The NATS server; NATS_URL does the same, and hides credentials from process "
            "lists.",
            show_default=False,
        ),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A context of the nats command line, or @selected; NATS_CONTEXT does the same.",
            show_default=False,
        ),
    ] = None,
    inbox_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="The prefix of inboxes; NATS_INBOX_PREFIX does the same.",
            show_default=False,
        ),
    ] = None,
    js_domain: Annotated[
        str | None,
        typer.Option(
            metavar="DOMAIN",
            help="The JetStream domain; EVENTSTORE_NATS_JETSTREAM_DOMAIN does the same.",
            show_default=False,
        ),
    ] = None,
    js_api_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="PREFIX",
            help="The prefix of JetStream's API; NATS_API_PREFIX does the same.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file of settings; EVENTSTORE_CONFIG does the same.",
            show_default=False,
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|URL",
            help="The read-model database; EVENTSTORE_DATABASE does the same, and hides a password "
            "from process lists.  [default: read_model.sqlite in --dir]",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=2,
            help="2 runs the read side in a process of its own; EVENTSTORE_PROCESSES does the "
            "same.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    directory: Annotated[
        Path,
        typer.Option("--dir", metavar="DIR", help="The directory of the embedded server's data."),
    ] = Path("var"),
    find_server: bool = True,
    first_connect_ms: int = 3_000,
) -> Session:
    """A session with these settings.

    With `find_server`, and if no server is named, it uses the embedded one that `eventstore serve`
    runs in the same directory. `first_connect_ms` applies unless the settings have a value.
    """

    def load() -> Settings:
        settings = load_settings(
            config,
            nats_url=nats_url,
            database=database,
            context=context,
            inbox_prefix=inbox_prefix,
            jetstream_domain=js_domain,
            api_prefix=js_api_prefix,
            processes=processes,
        )
        if settings.nats.retry.first_connect_ms is None:
            settings = with_retry(settings, first_connect_ms=first_connect_ms)
        settings = settings.in_directory(directory)
        if not find_server or settings.nats.url:
            return settings
        running = running_server(server_directory(directory))
        return settings if running is None else settings.with_url(running)

    return Session(
        load,
        directory,
        find=lambda: find_application(config),
        named=lambda: is_named(config),
    )


_ONE_PROCESS = {"processes": None}

ClientSession = Annotated[Session, MadeBy(_session, {"database": None, **_ONE_PROCESS})]
"""For a subcommand that needs a running server."""

ReadModelSession = Annotated[Session, MadeBy(_session, _ONE_PROCESS)]
"""For a subcommand that uses a service's read model, and the server if that runs."""

_NO_SERVER = ("nats_url", "context", "inbox_prefix", "js_domain", "js_api_prefix")

DatabaseSession = Annotated[
    Session, MadeBy(_session, {**dict.fromkeys(_NO_SERVER), "find_server": False, **_ONE_PROCESS})
]
"""For a subcommand that uses a read model only."""

DemoSession = Annotated[Session, MadeBy(_session, {"find_server": False, **_ONE_PROCESS})]
"""For a service that runs on an embedded server, unless another one is named."""

ServeSession = Annotated[
    Session, MadeBy(_session, {"find_server": False, "first_connect_ms": 60_000})
]
"""The same for a service that may be started before its server."""


def as_command(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as Typer takes it: with options in place of what is made from them.

    If it is async, it is run to its end.
    """
    parameters = dict(inspect.signature(function, eval_str=True).parameters)
    if "session" in parameters:
        parameters["session"] = parameters.pop("session")  # its options come last
    made = {
        name: each
        for name, parameter in parameters.items()
        for each in get_args(parameter.annotation)
        if isinstance(each, MadeBy)
    }

    def command(**given: Any) -> None:
        given |= {name: each.make(given) for name, each in made.items()}
        result = function(**given)
        if inspect.iscoroutine(result):
            run(result)

    options = [
        option.replace(kind=option.KEYWORD_ONLY)
        for name, parameter in parameters.items()
        for option in (made[name].options() if name in made else [parameter])
    ]
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in options}
    return command
