"""`eventstore audit search`: events and commands that fit, as a table."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.audit import AuditEntry, SearchAudit
from eventstore.cli.audit_index import Reach, asked_index, reach
from eventstore.cli.show import brief
from eventstore.cli.terminal import printable
from eventstore.config import Settings
from eventstore.messages.queries import Listed

__all__ = ["Searched", "print_found", "search"]

_STYLES = {"success": "green", "rejected": "yellow", "error": "red"}


class Searched(Struct, frozen=True):
    """What was found, and how far the index has come."""

    found: Listed[AuditEntry]
    reach: Reach

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can hold."""
        return {
            "position": self.reach.position,
            "log_end": self.reach.end,
            "items": self.found.items,
            "next": self.found.next,
        }


async def search(settings: Settings, query: SearchAudit) -> Searched:
    """Ask the index; raises as `AuditIndex.search` does."""
    async with asked_index(settings) as index:
        how_far = await reach(index, settings)
        return Searched(await index.search(query), how_far)


def print_found(console: Console, searched: Searched) -> None:
    """A line for each entry, and how to go on."""
    found = searched.found
    if found.items:
        console.print(_table(found))
    else:
        _say(console, "nothing fits")
    if found.next is not None:
        _say(console, f"there is more: --after {found.next}")
    if searched.reach.about is not None:
        _say(console, searched.reach.about)


def _table(found: Listed[AuditEntry]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("time (UTC)", "id", "what", "aggregate", "by", "outcome"):
        table.add_column(name, overflow="fold")
    for column in table.columns[:3]:
        column.no_wrap = True
    for entry in found.items:
        about = " ".join(word for word in (entry.aggregate, entry.aggregate_id) if word)
        table.add_row(
            f"{entry.time:%Y-%m-%d %H:%M:%S}",
            entry.id[:8],
            printable(entry.type or "(unknown)"),
            printable(brief(about)),
            printable(entry.actor or ""),
            _outcome(entry),
        )
    return table


def _outcome(entry: AuditEntry) -> Text:
    if entry.status is None:
        return Text(f"v{entry.version}")
    code = "" if entry.status == "success" else f" ({entry.code})"
    return Text(printable(f"{entry.status}{code}"), style=_STYLES[entry.status])


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)
