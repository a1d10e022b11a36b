"""The answers of queries: tables for people, in 80 columns where possible, or JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.cli.terminal import Terminal, printable, say
from eventstore.client.queries import QueryAnswer
from eventstore.messages.queries import Listed, Query
from eventstore.text import printable_json

__all__ = ["Output"]

_LEFT_OUT = {"position", "created_at", "event_id"}
_NARROWEST = 16  # to which texts are broken before a column is left out
_GAP = 2


class Output:
    """Prints answers: what was asked for on standard output, and with --json the rest beside it."""

    def __init__(self, query: type[Query[Any]], *, json: bool) -> None:
        self._query = query
        self._json = json
        self._out = Terminal()
        self._count = 0

    def show(self, answer: QueryAnswer[Any], *, is_last: bool = True) -> bool:
        """Print an answer, and after the last its position; False where nobody reads any more."""
        data = answer.data
        items = data.items if isinstance(data, Listed) else [data]
        self._count += len(items)
        if not self._json:
            self._print(data)
        elif not all(say(msgspec.json.encode(item).decode()) for item in items):
            return False
        if is_last:
            self._end(answer)
        return True

    def _print(self, data: Any) -> None:
        if not isinstance(data, Listed):
            _print_one(self._out, data)
        elif data.items:
            self._out.print(_table(data.items, self._out.width))

    def _end(self, answer: QueryAnswer[Any]) -> None:
        """The position, and for a list how many items that were and how to go on."""
        following = {"next": answer.data.next} if isinstance(answer.data, Listed) else {}
        if self._json:
            rest = {"position": answer.position, **following}
            typer.echo(printable_json(msgspec.json.encode(rest).decode()), err=True)
            return
        count = f"{self._count:,} item{'' if self._count == 1 else 's'}, " if following else ""
        said = f"{count}position {answer.position} of the log"
        self._out.print(said, style="dim", soft_wrap=True)
        if following.get("next") is not None:
            self._out.print(printable(f"more: --after {following['next']}"), soft_wrap=True)


def _table(items: Sequence[Any], width: int) -> Table:
    """A column for each field that says something of any item, as far as there is room."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    shown: list[str] = []
    for name in items[0].__struct_fields__:
        values = [getattr(item, name) for item in items]
        cells = [_cell(value) for value in values]
        widest = max(map(cell_len, (name, *cells)))
        is_whole = name == "id" or not isinstance(values[0], str | list)
        least = widest if is_whole else min(widest, _NARROWEST)
        if name not in _LEFT_OUT and any(cells) and least <= width:
            table.add_column(name, overflow="fold", no_wrap=is_whole, min_width=least)
            shown.append(name)
            width -= least + _GAP
    for item in items:
        table.add_row(*(Text(_cell(getattr(item, name))) for name in shown))
    return table


def _print_one(out: Console, data: Any, indent: str = "") -> None:
    """A line for each field that says something; texts of several lines, and parts, below it."""
    values = {name: getattr(data, name) for name in data.__struct_fields__}
    width = max(map(len, values))
    for name, value in values.items():
        if _is_block(value):
            out.print(f"{indent}{name}", soft_wrap=True)
            _print_block(out, value, f"{indent}  ")
        elif cell := _cell(value):
            out.print(Text(f"{indent}{name:{width}}  {cell}"), soft_wrap=True)


def _is_block(value: Any) -> bool:
    if isinstance(value, str):
        return "\n" in value
    return isinstance(value, list) and any(isinstance(part, msgspec.Struct) for part in value)


def _print_block(out: Console, value: Any, indent: str) -> None:
    if isinstance(value, str):
        for line in value.splitlines():
            out.print(Text(f"{indent}{printable(line)}"), soft_wrap=True)
        return
    for part in value:
        _print_one(out, part, indent)


def _cell(value: Any) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list():
            return ", ".join(map(_cell, value))
        case _:
            return printable(str(value))
