"""`eventstore audit export`: events and commands as JSON Lines or CSV."""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from eventstore.audit import AuditEntry, SearchAudit
from eventstore.cli.audit.filters import Matching
from eventstore.cli.audit.index import opened_index
from eventstore.cli.options import ReadModelSession
from eventstore.cli.output.events import payload_data
from eventstore.cli.output.progress import events_bar
from eventstore.cli.output.terminal import Terminal, say
from eventstore.cli.session import Session
from eventstore.concurrency.chunks import map_chunked
from eventstore.errors import ConfigurationError, CorruptLog
from eventstore.jetstream.direct_get import DirectReader
from eventstore.messages.headers import Header
from eventstore.messages.text import counted, decoded, printable_json

_MAX_CONCURRENCY = 64

_Write = Callable[[str], bool]
"""Writes some lines, with their ends; False if nobody reads any more."""


async def export(
    session: ReadModelSession,
    wanted: Matching,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Appears when it is complete.  [default: stdout]"
        ),
    ] = None,
    form: Annotated[
        Literal["jsonl", "csv"] | None,
        typer.Option("--format", help="[default: by the file's name, or jsonl]"),
    ] = None,
    payload: Annotated[
        bool, typer.Option("--payload", help="With the events' payloads, from the log.")
    ] = False,
) -> None:
    """Write events and commands to a file, oldest first.

    As JSON Lines or CSV, with all columns. In CSV, a text that a spreadsheet would take for a
    formula has an apostrophe before it.

    Answered from the read model that `eventstore serve` maintains. Ends with status 0, or 2 for an
    error.
    """
    is_csv = form == "csv" if form else output is not None and output.suffix == ".csv"
    count = await _export(session, wanted, output, is_csv=is_csv, payload=payload)
    if output is not None:
        say(f"{counted(count, 'entry')} written to {output}")


async def _export(
    session: Session, wanted: SearchAudit, output: Path | None, *, is_csv: bool, payload: bool
) -> int:
    """Write what matches, and return its number; the file appears when it is complete.

    Raises `ConfigurationError` for a file that cannot be written, `CorruptLog` if the log does
    not have the event whose payload is wanted, and what the index and the log raise.
    """
    async with AsyncExitStack() as stack:
        index = await stack.enter_async_context(opened_index(session))
        await index.position()  # raises what is missing, before anything is written
        reader = await stack.enter_async_context(_log_reader(session)) if payload else None
        write = stack.enter_context(_written(output))
        total = await index.count(wanted)
        advance = stack.enter_context(events_bar(Terminal(stderr=True), "exporting"))
        advance(0, total)
        form = _Csv(payload=payload) if is_csv else _JsonLines()
        if not write(form.begin()):
            return 0
        count = 0
        async with aclosing(index.read(wanted)) as pages:
            async for page in pages:
                found = None if reader is None else await _payloads(reader, page)
                if not write(form.lines(page, found)):
                    break
                count += len(page)
                advance(count, total)
    return count


@asynccontextmanager
async def _log_reader(session: Session) -> AsyncIterator[DirectReader]:
    async with session.connect() as client:
        yield DirectReader(client, session.subjects.log_stream)


async def _payloads(reader: DirectReader, entries: Sequence[AuditEntry]) -> list[bytes | None]:
    """A payload for each event, None for each command."""
    return await map_chunked(partial(_payload, reader), entries, _MAX_CONCURRENCY)


async def _payload(reader: DirectReader, entry: AuditEntry) -> bytes | None:
    if entry.kind != "event":
        return None
    message = await reader.at(entry.position)
    if message is None:  # a replica may lag
        message = await reader.at(entry.position, leader=True)
    if message is None or message.headers.get(Header.EVENT_ID) != entry.id:
        raise CorruptLog(
            f"{entry.type} {entry.id} is no longer at position {entry.position}: "
            "see `eventstore audit verify`"
        )
    return message.payload or b"{}"


_FORMULA = re.compile(r"[\t\r\n]|[\s\x00\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""The beginning of a cell that may be taken for a formula; its signs may be full-width forms."""


class _JsonLines:
    """An object a line, with unsafe characters as escapes."""

    def begin(self) -> str:
        return ""

    def lines(self, entries: Sequence[AuditEntry], payloads: Sequence[bytes | None] | None) -> str:
        rows = [msgspec.structs.asdict(entry) for entry in entries]
        for row, payload in zip(rows, payloads or (), strict=payloads is not None):
            row["payload"] = None if payload is None else payload_data(payload)
        return "".join(f"{printable_json(msgspec.json.encode(row).decode())}\n" for row in rows)


class _Csv:
    """A row a line, after one with the names of the columns (RFC 4180).

    A text that a spreadsheet would take for a formula has an apostrophe before it; all else is as
    it was recorded, because CSV has no escapes; only a terminal is shown some.
    """

    def __init__(self, *, payload: bool) -> None:
        self._names = AuditEntry.__struct_fields__ + (("payload",) if payload else ())

    def begin(self) -> str:
        return self._rows([self._names])

    def lines(self, entries: Sequence[AuditEntry], payloads: Sequence[bytes | None] | None) -> str:
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

    So is one that begins like a formula after spaces, because some programs ignore those.
    """
    return [f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell for cell in row]


@contextmanager
def _written(output: Path | None) -> Iterator[_Write]:
    """A writer to standard output, or to a file that gets its name when it is complete."""
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
