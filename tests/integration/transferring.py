"""Export files in tests: made, read, damaged; and a second server to import into."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from eventstore.client.client import Client
from eventstore.config import StreamSettings
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.codec import Codec
from eventstore.store.append import Append
from eventstore.store.store import EventStore
from eventstore.transfer import ExportSummary, ImportSummary, export_log, import_log
from eventstore.transfer.file_format import EventLine, FileSums, FirstLine
from eventstore.transfer.file_reader import FileState
from eventstore.transfer.file_writer import FileWriter, partial_file
from tests.integration.ledger import Deposited, Noted, Opened
from tests.integration.tampering import Log, stored

ODD_ID = "11111111-1111-4111-8111-111111111111"


async def fill(client: Client, store: EventStore, codec: Codec, more: int = 0) -> None:
    """Single events, batches on one and several aggregates, and what only others would write."""
    await store.append("account", "a1", Opened(owner="änn"), actor="ann")
    await store.append("account", "a1", [Deposited(amount=n) for n in range(5)])
    await store.append_all(
        Append(aggregate="account", aggregate_id="a2", events=[Opened(), Deposited()]),
        Append(aggregate="journal", aggregate_id="j", events=[Noted(text="x" * 1_000)]),
    )
    odd = {
        "X-Note": "of our own: é",
        "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "Nats-Msg-Id": ODD_ID,
    }
    await client.request(codec.subjects.log("journal", "raw"), b"\xff\x00 no text", headers=odd)
    await client.request(codec.subjects.log("journal", "empty"), b"", headers={"X-Note": "1"})
    for number in range(more):
        await store.append("account", f"m{number % 7}", [Deposited(amount=n) for n in range(35)])
        await store.append("journal", "j", Noted(text=str(number)))


async def exported(client: Client, codec: Codec, path: Path, **options: Any) -> ExportSummary:
    return await export_log(client, codec.subjects, path, **options)


async def imported(client: Client, codec: Codec, path: Path, **options: Any) -> ImportSummary:
    options = {"foreign": True, **options}  # `fill` has some
    return await import_log(client, codec.subjects, StreamSettings(), path, **options)


async def without_expected(client: Client, codec: Codec) -> Log:
    """The log as it is, but for the headers that say where in the log an event was to go."""
    return [_bare(message) for message in await stored(client, codec)]


def _bare(message: StoredMessage) -> StoredMessage:
    headers = {
        name: value
        for name, value in message.headers.items()
        if not name.startswith("Nats-Expected-")
    }
    return StoredMessage(message.subject, message.sequence, headers, message.payload)


def lines(file: Path | bytes) -> list[dict[str, Any]]:
    """The lines of a file, read by nothing of ours."""
    content = file if isinstance(file, bytes) else file.read_bytes()
    return [json.loads(line) for line in gzip.decompress(content).split(b"\n")[:-1]]


def events(path: Path) -> list[dict[str, Any]]:
    """The event lines of a file, without sums and without what tells the server the place."""
    found = [line for line in lines(path) if line["line"] == "event"]
    for line in found:
        del line["sum"]
        line["headers"] = [
            (name, value)
            for name, value in line["headers"].items()
            if not name.startswith("Nats-Expected-")
        ]
    return found


def rewritten(path: Path, change: Any) -> None:
    """Put a file's text, as lines of bytes, through a function; all in one compressed member."""
    text = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    first, *rest = change(text)
    path.write_bytes(gzip.compress(first) + gzip.compress(b"".join(rest)))


def shortened(path: Path, length: int | None) -> None:
    """Leave only so many bytes of a file, or leave out so many at its end if it is negative."""
    path.write_bytes(path.read_bytes()[:length])


def flipped(path: Path, place: int) -> None:
    """Change a bit of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


async def written_file(path: Path, codec: Codec, messages: Log) -> None:
    """A complete file of any messages."""
    first = FirstLine(
        domain=codec.domain,
        stream=codec.subjects.log_stream,
        time="2026-01-01T00:00:00.000000Z",
        first=1,
        last=len(messages),
    )
    with partial_file(path) as file:
        writer = FileWriter(file, FileState(FileSums()))
        await writer.begin(first)
        for message in messages:
            await writer.add(EventLine.of(message))
        await writer.end()
