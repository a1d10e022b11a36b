"""The answers of queries: tables for people, in 80 columns if possible, or JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
import typer
from msgspec import Struct
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from eventstore.cli.output.terminal import Terminal, say_json
from eventstore.client.queries import QueryAnswer
from eventstore.messages.queries import Listed
from eventstore.messages.text import counted, printable, printable_json

_LEFT_OUT = {"position", "created_at", "event_id"}
_MIN_WIDTH = 16  # to which texts are wrapped before a column is left out
_GAP = 2


class Output:
    """Prints answers on standard output; with --json their positions on standard error."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._terminal = Terminal()
        self._count = 0
        self._left_out: dict[str, None] = {}

    def show(self, answer: QueryAnswer[Any], *, is_last: bool = True) -> bool:
        """Print an answer, and after the last its position; False if nobody reads any more."""
        data = answer.data
        items = data.items if isinstance(data, Listed) else [data]
        self._count += len(items)
        if self._json:
            if not all(map(say_json, items)):
                return False
        elif not isinstance(data, Listed):
            _print_one(self._terminal, data)
        elif items:
            table, left_out = _table(items, self._terminal.width)
            self._left_out |= dict.fromkeys(left_out)
            self._terminal.print(table)
        if is_last:
            self._end(answer)
        return True

    def _end(self, answer: QueryAnswer[Any]) -> None:
        """Print the position, and for a list the number of items and how to continue."""
        following = {"next": answer.data.next} if isinstance(answer.data, Listed) else {}
        if self._json:
            rest = {"position": answer.position, **following}
            typer.echo(printable_json(msgspec.json.encode(rest).decode()), err=True)
            return
        count = f"{counted(self._count, 'item')}, " if following else ""
        if self._left_out:
            names = ", ".join(self._left_out)
            self._terminal.print_line(f"too wide to show: {names}; see --json", "dim")
        self._terminal.print_line(f"{count}position {answer.position} of the log", "dim")
        if following.get("next") is not None:
            self._terminal.print_line(f"more: --after {following['next']}")


def _table(items: Sequence[Any], width: int) -> tuple[Table, list[str]]:
    """A column for each field that has a value in any item, and the names of those too wide."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    rows = [_values(item) for item in items]
    shown: list[str] = []
    left_out: list[str] = []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        cells = [_cell(value) for value in values]
        widest = max(map(cell_len, (name, *cells)))
        is_whole = name == "id" or not isinstance(values[0], str | list)
        least = widest if is_whole else min(widest, _MIN_WIDTH)
        if name in _LEFT_OUT or not any(cells):
            continue
        if least > width:
            left_out.append(name)
        else:
            table.add_column(printable(name), overflow="fold", no_wrap=is_whole, min_width=least)
            shown.append(name)
            width -= least + _GAP
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in shown))
    return table, left_out


def _values(item: Any) -> Mapping[str, Any]:
    """The fields of an item, whose own values keep their types; one without fields is a value."""
    if isinstance(item, Struct):
        return msgspec.structs.asdict(item)
    plain = msgspec.to_builtins(item, str_keys=True)
    return plain if isinstance(plain, dict) else {"value": plain}


def _print_one(terminal: Terminal, data: Any, indent: str = "") -> None:
    """Print a line for each field that has a value; texts of several lines, and parts, below it."""
    values = _values(data)
    width = max(map(len, values), default=0)
    for name, value in values.items():
        if isinstance(value, str) and "\n" in value:
            terminal.print_line(f"{indent}{name}")
            for line in value.splitlines():
                terminal.print_line(f"{indent}  {line}")
        elif isinstance(value, list) and any(isinstance(part, Struct | dict) for part in value):
            terminal.print_line(f"{indent}{name}")
            for part in value:
                _print_one(terminal, part, f"{indent}  ")
        elif cell := _cell(value):
            terminal.print_line(f"{indent}{name:{width}}  {cell}")


def _cell(value: Any) -> str:
    match value:
        case None | False:
            return ""
        case True:
            return "yes"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list() | tuple() | set() | frozenset():
            return ", ".join(map(_cell, value))
        case Struct() | dict():
            return printable(msgspec.json.encode(value).decode())
        case _:
            return printable(str(msgspec.to_builtins(value)))
