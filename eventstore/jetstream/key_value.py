"""Key-value buckets: read, compare-and-set, delete, erase and watch (ADR-8).

A bucket is a stream, `KV_{bucket}` of the subjects `$KV.{bucket}.{key}`; a key's revision is the
stream sequence of its last message. Compatible with NATS's own tools.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import Client, Msg
from eventstore.client.protocol import Headers, header_lines
from eventstore.errors import JetStreamError
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.direct_get import DirectReader, LastMessage
from eventstore.jetstream.publish import Draft, read_publication
from eventstore.jetstream.stored_message import StoredMessage, erase_message
from eventstore.jetstream.vocabulary import (
    CONFLICTS,
    NatsHeader,
    bucket_stream,
    bucket_subject,
)

_OWN_HEADERS = (NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE, NatsHeader.KV_OPERATION)

DELETED = "DEL"
"""The value of `NatsHeader.KV_OPERATION` that deletes a key."""


class KeyValue:
    """One bucket; `timeout` is seconds for each answer.

    Entries are `StoredMessage`s: `sequence` is the revision. A deleted key is an entry with an
    empty payload, because its revision counts for the next `update`; None is a key that was never
    set. All methods raise `ClientError`. If the bucket does not exist, those that ask its
    leader raise `StreamMissing`; `get`, `put` and `update` raise `NoResponders`, because users with
    permissions for a single key may not request more.
    """

    def __init__(self, client: Client, bucket: str, *, timeout: float = 5.0) -> None:
        self.bucket = bucket
        self.stream = bucket_stream(bucket)
        self._client = client
        self._prefix = bucket_subject(bucket, "")
        self._reader = DirectReader(client, self.stream, timeout=timeout)
        self._timeout = timeout

    def subject(self, key: str) -> str:
        """The subject of a key, or of several by wildcards."""
        return f"{self._prefix}{key}"

    def key(self, subject: str) -> str:
        """The key that a message of this subject sets."""
        return subject.removeprefix(self._prefix)

    def get(self, key: str) -> Awaitable[StoredMessage | None]:
        """The last entry of a key by direct get; may lag on a replicated bucket."""
        return LastMessage(self._client, self.stream, f"{self._prefix}{key}", self._timeout)

    async def leader_get(self, key: str) -> StoredMessage | None:
        """The last entry of a key, or of keys by wildcards, as the bucket's leader has it."""
        return await self._reader.leader_last(self.subject(key))

    async def entries(self, keys: str = ">") -> AsyncGenerator[StoredMessage, None]:
        """The entries, oldest first, in pages by direct get, up to the last the leader has."""
        async with aclosing(self._reader.messages(self.subject(keys))) as messages:
            async for message in messages:
                yield message

    async def leader_entries(self, keys: str = ">") -> AsyncGenerator[StoredMessage, None]:
        """The entries that the leader has now, oldest first, one by one."""
        last, after = (await self.info()).state.last_seq, 0
        while after < last:
            entry = await self._reader.leader_next(self.subject(keys), after)
            if entry is None or entry.sequence > last:
                return
            after = entry.sequence
            yield entry

    async def put(self, key: str, value: bytes | None, headers: Headers = "") -> int:
        """Set a key, or delete it (None), whatever it is; returns the revision."""
        draft = self._draft(key, value, _lines(headers))
        answer = await self._client.exchange((draft,), timeout=self._timeout)
        return read_publication((draft,), answer, self.stream).seq

    def _draft(self, key: str, value: bytes | None, lines: str) -> Draft:
        if value is None:
            lines += f"{NatsHeader.KV_OPERATION}: {DELETED}\r\n"
        subject = f"{self._client.domain_prefix}{self._prefix}{key}"
        return Draft(subject, lines, value or b"", subject)

    async def update(
        self, key: str, value: bytes | None, revision: int, headers: Headers = ""
    ) -> int | None:
        """Set a key, or delete it (None), if this is its revision (0: none); the new revision.

        None if another writer was faster.
        """
        expected = f"{NatsHeader.EXPECTED_LAST_SUBJECT_SEQUENCE}: {revision}\r\n"
        draft = self._draft(key, value, _lines(headers) + expected)
        answer = await self._client.exchange((draft,), timeout=self._timeout)
        try:
            return read_publication((draft,), answer, self.stream).seq
        except JetStreamError as error:
            if error.err_code not in CONFLICTS:
                raise
            return None

    async def erase(self, revision: int) -> None:
        """Delete one entry and overwrite its bytes; does nothing if it is deleted already."""
        await erase_message(self._client, self.stream, revision, self._timeout)

    async def info(self) -> StreamInfo:
        """The configuration and state of the bucket's stream."""
        return await stream_info(self._client, self.stream, timeout=self._timeout)

    async def watch(
        self,
        changed: Callable[[str, bytes], None],
        missed: Callable[[], None],
        *,
        keys: str = ">",
    ) -> Callable[[], Awaitable[None]]:
        """Call `changed` with each key that is written and its value, until what is returned is.

        A change is reported before the bucket has stored it, or refused it. `missed` is called
        after a reconnect: changes before it may not have been reported. Across a leaf node, changes
        that are made on its other side are not.
        """
        prefix = self._client.domain_prefix

        async def receive(message: Msg) -> None:
            changed(self.key(message.subject.removeprefix(prefix)), message.data)

        subjects = dict.fromkeys([self.subject(keys), f"{prefix}{self.subject(keys)}"])
        subscriptions = [await self._client.subscribe(each, receive) for each in subjects]
        forget_reconnect = self._client.on_reconnect(missed)

        async def stop() -> None:
            forget_reconnect()
            for subscription in subscriptions:
                await subscription.unsubscribe()

        return stop


def _lines(headers: Headers) -> str:
    """The lines of headers, without those that each write adds: they may be a stored entry's."""
    if isinstance(headers, str):
        return headers
    return header_lines({k: v for k, v in headers.items() if k not in _OWN_HEADERS})
