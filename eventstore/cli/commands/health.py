"""`eventstore health`: the health of a running service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from eventstore.cli.options import ClientSession, Json, Timeout
from eventstore.cli.output.terminal import Terminal, say, table
from eventstore.cli.session import Session
from eventstore.messages.text import printable
from eventstore.service.endpoints import report_in
from eventstore.service.health import HealthReport

EXIT_STATUS = {"healthy": 0, "degraded": 1, "unhealthy": 2}

_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


async def health(
    session: ClientSession,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="A service or a domain.  [default: the configured service]"
        ),
    ] = None,
    timeout: Timeout = 5.0,
    json: Json = False,
) -> None:
    """Print the health of a running service.

    That is its connection, streams, commands and read models. Ends with status 0 if it is healthy,
    1 if degraded, 2 if unhealthy or unreachable.
    """
    report = await request_health(session, name, timeout)
    if json:
        say(report.to_json().decode())
    else:
        print_health(Terminal(), report)
    raise typer.Exit(EXIT_STATUS[report.status])


async def request_health(session: Session, name: str | None, timeout: float) -> HealthReport:
    """Request the health of a service or a domain; of the configured service if none is named.

    `timeout` is seconds. Raises `ClientError` if none answers, or not with a report.
    """
    subject = f"health.{name or session.app.identity(session.settings).name}"
    async with session.connect() as client:
        return report_in(await client.request(subject, timeout=timeout), subject)


def print_health(terminal: Terminal, report: HealthReport) -> None:
    """Print a report: a summary, then each check with its facts or its problem."""
    about = [f"{report.service} {report.version}"]
    uptime, memory = (report.details.get(name) for name in ("uptime_seconds", "memory_bytes"))
    if isinstance(uptime, int | float):
        about.append(f"up {uptime:,.0f} s")
    if isinstance(memory, int):
        about.append(f"{memory / 1e6:,.0f} MB")
    status = Text(report.status, style=_STYLES[report.status])
    terminal.print(status, printable(", ".join(about)), soft_wrap=True)
    shown = table("check", "status", "about")
    for name, check in report.checks.items():
        said = str(check.get("status"))
        found = str(check.get("problem") or _facts(check))
        cell = Text(printable(said), style=_STYLES.get(said, ""))
        shown.add_row(printable(name), cell, printable(found))
    terminal.print(shown)


def _facts(check: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_brief(value)}"
        for name, value in check.items()
        if name not in ("status", "problem")
    )


def _brief(value: object) -> str:
    """A number or a text as it is; of a mapping, its size and its keys."""
    if not isinstance(value, Mapping):
        return str(value)
    return f"{len(value)} ({', '.join(map(str, value))})"
