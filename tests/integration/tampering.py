"""Copies of a log in which something was changed, as somebody with the server's files could."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from eventstore.audit import Finding
from eventstore.audit.anchor import Anchor
from eventstore.audit.finding import VerifySummary
from eventstore.audit.verify import verify
from eventstore.client.client import Client
from eventstore.jetstream.publish import publish_acked
from eventstore.jetstream.stored_message import StoredMessage
from eventstore.messages.chain import chain_value
from eventstore.messages.codec import Codec
from eventstore.messages.headers import Header
from eventstore.store.log import StoredLog

Log = list[StoredMessage]
Tamper = Callable[[Log], Log]


async def stored(client: Client, codec: Codec) -> Log:
    """All messages of the log as they are."""
    log = StoredLog(client, codec.subjects.log_stream)
    return [message async for page in log.pages() for message in page.messages]


async def plain_stream(client: Client, codec: Codec, first: int = 1) -> None:
    """A stream in the place of the log, which allows what the log does not."""
    stream = codec.subjects.log_stream
    await client.api(f"STREAM.DELETE.{stream}")
    config = {
        "name": stream,
        "subjects": [codec.subjects.all_log],
        "allow_atomic": True,
        "allow_direct": True,
        "first_seq": first,
    }
    await client.api(f"STREAM.CREATE.{stream}", config)


async def replace_log(
    client: Client, codec: Codec, messages: Iterable[StoredMessage], first: int = 1
) -> None:
    """Have a plain stream with these messages, single ones, in the place of the log."""
    await plain_stream(client, codec, first)
    for message in messages:
        headers = {
            name: value
            for name, value in message.headers.items()
            if not name.startswith(("Nats-Batch-", "Nats-Expected-", Header.MESSAGE_ID))
        }
        await publish_acked(client, message.subject, message.payload, headers)


async def findings(
    client: Client,
    codec: Codec,
    *words: str,
    anchor: Anchor | None = None,
    read: bool = False,
    summary: VerifySummary | None = None,
) -> list[Finding]:
    walk = verify(
        client, codec, *words, anchor=anchor, read=read, summary=summary, retry_timeout=0.3
    )
    return [finding async for finding in walk]


def changed(index: int, payload: bytes | None = None, **headers: str | None) -> Tamper:
    """The event at an index with another payload, or with headers (X_Actor=...) set or removed."""

    def tamper(log: Log) -> Log:
        message = log[index]
        own = {**message.headers, **{_name(name): value for name, value in headers.items()}}
        kept = {name: value for name, value in own.items() if value is not None}
        new = replace(
            message, headers=kept, payload=message.payload if payload is None else payload
        )
        return [*log[:index], new, *log[index + 1 :]]

    return tamper


def ordered(*indexes: int) -> Tamper:
    """The events at these indexes, in this order."""
    return lambda log: [log[index] for index in indexes]


def moved(index: int, aggregate_id: str, to: int) -> Tamper:
    """The event at an index is taken out, and stands under another aggregate's subject."""

    def tamper(log: Log) -> Log:
        message = log[index]
        subject = f"{message.subject.rpartition('.')[0]}.{aggregate_id}"
        rest = [*log[:index], *log[index + 1 :]]
        return [*rest[:to], replace(message, subject=subject), *rest[to:]]

    return tamper


def rechained(log: Log, first: int = 0) -> Log:
    """What somebody leaves who knows how chains are made: all of them computed again."""
    heads: dict[str, str] = {}
    new = []
    for index, message in enumerate(log):
        headers: Mapping[str, str] = message.headers
        before = heads.get(message.subject, "0" * 64)
        chain = chain_value(before, message.subject, headers, message.payload)
        heads[message.subject] = chain if index >= first else headers[Header.CHAIN]
        new.append(replace(message, headers={**headers, Header.CHAIN: heads[message.subject]}))
    return new


def named(found: Sequence[Finding]) -> list[tuple[str, int, int | None]]:
    """Kind, position and version of each."""
    return [(finding.kind, finding.position, finding.version) for finding in found]


def _name(keyword: str) -> str:
    return keyword.replace("_", "-")
