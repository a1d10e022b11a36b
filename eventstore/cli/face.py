"""`eventstore health` and `eventstore discover`: how a service is, and which are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.cli.connecting import connected
from eventstore.cli.terminal import printable
from eventstore.config import Settings
from eventstore.errors import ClientError
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.service.discovery import DiscoveredService, discover
from eventstore.service.health import HealthReport
from eventstore.undecodable import UNDECODABLE

__all__ = ["EXIT_STATUS", "ask_health", "find_services", "print_found", "print_health"]

EXIT_STATUS = {"healthy": 0, "degraded": 1, "unhealthy": 2}

_STYLES = {"healthy": "green", "degraded": "yellow", "unhealthy": "red"}


async def ask_health(settings: Settings, name: str | None, timeout: float) -> HealthReport:
    """Ask a service, or a domain, how it is; the settings' own service where none is named.

    `timeout` is seconds. Raises `ClientError` where none answers, or not with a report.
    """
    subject = f"health.{name or settings.nats.service.name}"
    async with connected(settings) as client:
        answer = await client.request(subject, timeout=timeout)
    refusal = (answer.headers or {}).get(NatsHeader.SERVICE_ERROR)
    if refusal is not None:
        raise ClientError(f"{subject}: {refusal}")
    try:
        return HealthReport.from_json(answer.data)
    except UNDECODABLE as error:
        raise ClientError(f"{subject}: the answer is no health report: {error}") from error


async def find_services(
    settings: Settings, seconds: float, count: int | None
) -> list[DiscoveredService]:
    """The services that answer within `seconds`, or the first `count` of them."""
    async with connected(settings) as client:
        return await discover(client, seconds, count=count)


def print_health(console: Console, report: HealthReport) -> None:
    """A report: the whole in one line, then each check with its facts, or what is wrong."""
    about = [f"{report.service} {report.version}"]
    uptime, memory = (report.details.get(name) for name in ("uptime_seconds", "memory_bytes"))
    if isinstance(uptime, int | float):
        about.append(f"up {uptime:,.0f} s")
    if isinstance(memory, int):
        about.append(f"{memory / 1e6:,.0f} MB")
    status = Text(report.status, style=_STYLES[report.status])
    console.print(status, printable(", ".join(about)), soft_wrap=True)
    table = _table("check", "status", "about")
    for name, check in report.checks.items():
        said = str(check.get("status"))
        found = str(check.get("problem") or _facts(check))
        cell = Text(printable(said), style=_STYLES.get(said, ""))
        table.add_row(printable(name), cell, printable(found))
    console.print(table)


def print_found(console: Console, found: Iterable[DiscoveredService]) -> None:
    """Service instances, and how many endpoints of each kind they have."""
    table = _table("service", "version", "instance", "endpoints", "description")
    for each in found:
        kinds = Counter(endpoint.kind for endpoint in each.endpoints)
        endpoints = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        cells = (each.service, each.version, each.instance_id, endpoints, each.description)
        table.add_row(*map(printable, cells))
    console.print(table)


def _facts(check: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_brief(value)}"
        for name, value in check.items()
        if name not in ("status", "problem")
    )


def _brief(value: object) -> str:
    """A number or a text as it is; of many things, what each of them is about."""
    if not isinstance(value, Mapping):
        return str(value)
    return f"{len(value)} ({', '.join(map(str, value))})"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
