"""`eventstore audit export`: events and commands as JSON Lines or CSV, whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from eventstore.audit import Entry, SearchAudit
from eventstore.audit.entries import COLUMNS
from eventstore.cli.audit_index import opened_index
from eventstore.cli.connecting import connected
from eventstore.cli.progress import events_bar
from eventstore.cli.show import payload_data
from eventstore.cli.terminal import say
from eventstore.config import Settings
from eventstore.errors import ConfigurationError, CorruptLog
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.envelope import Header
from eventstore.messages.subjects import Subjects
from eventstore.text import decoded, printable_json

__all__ = ["export"]

_AT_ONCE = 64

_Write = Callable[[str], bool]
"""Takes some lines, with their ends; False where nobody wants more."""


async def export(
    settings: Settings,
    wanted: SearchAudit,
    output: Path | None,
    *,
    is_csv: bool,
    payload: bool,
    console: Console,
) -> int:
    """Write what fits, and how many that was; a file appears when it is complete, or not at all.

    Raises `ConfigurationError` for a file that cannot be written, `CorruptLog` where the log does
    not have the event whose payload is wanted, and what the index and the log raise.
    """
    async with AsyncExitStack() as stack:
        index = await stack.enter_async_context(opened_index(settings))
        await index.position()  # says what is missing, before anything is written
        payloads = await stack.enter_async_context(_payloads(settings)) if payload else None
        write = stack.enter_context(_written(output))
        total = await index.count(wanted)
        moved = stack.enter_context(events_bar(console, "exporting"))
        moved(0, total)
        form = _Csv(payload=payload) if is_csv else _JsonLines()
        if not write(form.begin()):
            return 0
        count = 0
        async with aclosing(index.read(wanted)) as pages:
            async for page in pages:
                found = None if payloads is None else await payloads.of(page)
                if not write(form.lines(page, found)):
                    break
                count += len(page)
                moved(count, total)
    return count


class _Payloads:
    """The payloads of events, from the log."""

    def __init__(self, reader: DirectReader) -> None:
        self._reader = reader

    async def of(self, entries: Sequence[Entry]) -> list[bytes | None]:
        """A payload for each event, None for each command."""
        found: list[bytes | None] = []
        for start in range(0, len(entries), _AT_ONCE):
            found.extend(await asyncio.gather(*map(self._one, entries[start : start + _AT_ONCE])))
        return found

    async def _one(self, entry: Entry) -> bytes | None:
        if entry.kind != "event":
            return None
        message = await self._reader.at(entry.position)
        if message is None:  # a replica may lag
            message = await self._reader.at(entry.position, leader=True)
        if message is None or message.headers.get(Header.EVENT_ID) != entry.id:
            raise CorruptLog(f"{entry.type} {entry.id} is no longer at position {entry.position}")
        return message.payload or b"{}"


@asynccontextmanager
async def _payloads(settings: Settings) -> AsyncIterator[_Payloads]:
    stream = Subjects(settings.nats.subject_prefix).log_stream
    async with connected(settings) as client, DirectReader(client, stream) as reader:
        yield _Payloads(reader)


_FORMULA = re.compile(r"[\t\r\n]|[\s\x00\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that may be taken for a formula: also by the full-width forms of its signs."""


class _JsonLines:
    """An object a line, in which nothing is unsafe to be seen."""

    def begin(self) -> str:
        return ""

    def lines(self, entries: Sequence[Entry], payloads: Sequence[bytes | None] | None) -> str:
        if payloads is None:
            return "".join(map(self._line, entries))
        return "".join(map(self._with_payload, entries, payloads))

    def _with_payload(self, entry: Entry, payload: bytes | None) -> str:
        data = None if payload is None else payload_data(payload)
        return self._line({**msgspec.structs.asdict(entry), "payload": data})

    def _line(self, row: Entry | dict[str, Any]) -> str:
        return f"{printable_json(msgspec.json.encode(row).decode())}\n"


class _Csv:
    """A row a line, after one with the names of the columns (RFC 4180).

    A text that a spreadsheet would take for a formula has an apostrophe before it; all else is as
    it was recorded, for CSV has no escapes, and only a terminal is shown some.
    """

    def __init__(self, *, payload: bool) -> None:
        self._names = (*COLUMNS, "payload") if payload else COLUMNS

    def begin(self) -> str:
        return self._rows([self._names])

    def lines(self, entries: Sequence[Entry], payloads: Sequence[bytes | None] | None) -> str:
        rows: list[list[Any]] = [list(msgspec.to_builtins(entry).values()) for entry in entries]
        for row, payload in zip(rows, payloads or (), strict=payloads is not None):
            row.append(None if payload is None else decoded(payload))
        return self._rows(rows)

    def _rows(self, rows: Sequence[Sequence[Any]]) -> str:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([_without_formulas(row) for row in rows])
        return text.getvalue()


def _without_formulas(row: Sequence[Any]) -> list[Any]:
    """Numbers stay numbers; a text that begins like a formula is marked as a text.

    So is what might be one after spaces, for some programs leave those out.
    """
    return [f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row]


@contextmanager
def _written(output: Path | None) -> Iterator[_Write]:
    """Where to write: standard output, or a file that takes its name when it is complete."""
    if output is None:
        yield lambda text: not text or say(text, newline=False)
        return
    with _writing(output):
        if output.is_dir():  # known before anything is written beside it
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        descriptor, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:

            def write(text: str) -> bool:
                with _writing(output):
                    file.write(text)
                return True

            yield write
            with _writing(output):
                file.flush()
                os.fsync(file.fileno())
        with _writing(output):
            os.replace(name, output)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        problem = error.strerror or error
        raise ConfigurationError(f"--output {output} cannot be written: {problem}") from error
