"""Direct reads from a stream: one message, or pages of one subject, without a consumer (ADR-31).

On a replicated stream a direct get may be answered by a follower, which lags behind the leader;
the `leader_*` reads are answered by the leader.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client, Message
from eventstore.concurrency.batching import Batchable
from eventstore.concurrency.chunks import chunked
from eventstore.errors import (
    ClientError,
    InvalidAnswer,
    JetStreamError,
    NoResponders,
    RequestTimeout,
)
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.stored_message import (
    StoredMessage,
    check_subject,
    event_in_page,
    leader_get,
    number_in,
    read_direct,
    status_of,
    stored_in,
)
from eventstore.jetstream.vocabulary import Api, NatsHeader

_PAGE_HEADERS = (NatsHeader.NUM_PENDING, NatsHeader.LAST_SEQUENCE)
MAX_PAGE = 256
"""Messages in a page at most."""

_END = re.compile(  # of most pages
    rf"NATS/1\.0 204 EOB\r\n{NatsHeader.NUM_PENDING}: ([0-9]{{1,19}})\r\n"
    rf"{NatsHeader.LAST_SEQUENCE}: ([0-9]{{1,19}})\r\n\r\n".encode()
)
_PAGE_BYTES = 8 * 1024 * 1024
_MAX_SUBJECTS = 64

SEARCH_SECONDS = 60.0
"""Time for a page of which the server may have to search a log of many GB that it has not read."""

_encode = msgspec.json.Encoder().encode


class LastMessage(Batchable[StoredMessage | None]):
    """A direct get of the last message on a subject, in a batch one request for all; may lag.

    Raises `ClientError`, `NoResponders` also if there is no such stream.
    """

    __slots__ = ("_client", "_stream", "_subject", "_timeout")

    def __init__(self, client: Client, stream: str, subject: str, timeout: float) -> None:
        self._client = client
        self._stream = stream
        self._subject = subject
        self._timeout = timeout
        self.kind = client, stream

    async def alone(self) -> StoredMessage | None:
        """Request it by its subject, which needs less permissions."""
        subject = self._client.api_subject(Api.DIRECT_GET.of(self._stream, self._subject))
        answer = await self._client.request(subject, timeout=self._timeout)
        return read_direct(answer, self._stream, self._subject)

    async def together(self, batch: Sequence[LastMessage]) -> Sequence[StoredMessage | None]:
        """Request all by one request."""
        if len(batch) == 1:
            return [await self.alone()]
        subjects = [each._subject for each in batch]
        page = BatchReplies(self._stream)
        await _fill(
            self._client, page, f"{subjects[0]} and others", self._timeout, multi_last=subjects
        )
        found = {message.subject: message for message in page.messages}
        if page.pending:  # they were too large for one page
            return [found.get(each._subject) or await each.alone() for each in batch]
        return [found.get(subject) for subject in subjects]


class BatchReplies:
    """The replies to one batched direct get.

    All must be messages of one stream and subject, in ascending sequence.
    """

    def __init__(self, stream: str, subject: str = ">", after: int = 0) -> None:
        self.messages: list[StoredMessage] = []
        self.pending = 0
        self.stream = stream
        self._subject = subject
        self._after = after
        self._last = 0
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        """Whether the last reply has arrived, or an error."""
        return self.complete.done()

    def set_result(self, message: Message) -> None:
        """Take the next reply."""
        if self.complete.done():
            return
        try:
            found = event_in_page(message, self.stream)
            if found is None:
                self._take(message)
            else:
                self._take_event(*found)
        except ClientError as error:
            self.set_exception(error)

    def _take_event(self, event: StoredMessage, before: int) -> None:
        # Each reply names the sequence of the one before, which shows a lost reply.
        if before == self._last < event.sequence > self._after and event.subject == self._subject:
            self.messages.append(event)
            self._last = event.sequence
            return
        self._check_order(before)
        self._add(event)

    def _take(self, message: Message) -> None:
        if (end := _END.fullmatch(message.block)) is not None:
            self._check_order(int(end[2]))
            return self._end(int(end[1]))
        headers = message.headers or {}
        status = status_of(headers)
        if status in (None, 204):
            self._check_order(decimal(headers.get(NatsHeader.LAST_SEQUENCE, "0")))
        if status is None:
            return self._add(stored_in(headers, message.data, self.stream, _PAGE_HEADERS))
        return self._finish(status, headers)

    def _check_order(self, before: int | None) -> None:
        if before != self._last:
            raise RequestTimeout(f"a reply to a page was lost after sequence {self._last}")

    def _add(self, message: StoredMessage) -> None:
        check_subject(message, self._subject)
        if message.sequence <= max(self._after, self._last):
            raise InvalidAnswer(
                f"{self._subject}: sequence {message.sequence} was answered after "
                f"{max(self._after, self._last)}"
            )
        self.messages.append(message)
        self._last = message.sequence

    def _finish(self, status: int, headers: dict[str, str]) -> None:
        if status == 503:
            raise NoResponders("no responders for direct gets of this stream")
        if status not in (204, 404):
            raise JetStreamError(0, status, headers.get("Description", "direct get refused"))
        is_end = status == 204
        self._end(number_in(self._subject, headers, NatsHeader.NUM_PENDING) if is_end else 0)

    def _end(self, pending: int) -> None:
        self.pending = pending
        self.complete.set_result(None)

    def set_exception(self, error: Exception) -> None:
        """Fail."""
        if not self.done():
            self.complete.set_exception(error)


async def _fill(
    client: Client, page: BatchReplies, what: str, timeout: float, **request: object
) -> None:
    """Request a page, and wait until it is complete."""
    subject = client.api_subject(Api.DIRECT_GET.of(page.stream))
    forget = client.request_soon(page, subject, _encode(request), timeout=timeout)
    try:
        await page.complete
    except RequestTimeout as error:
        raise RequestTimeout(f"no complete page of {what}: {error}") from None
    finally:
        forget()


class DirectReader:
    """Reads from one stream.

    Every read raises `StreamMissing`, `RequestTimeout`, `ConnectionLost`, `NoResponders`,
    `PermissionDenied`, `InvalidAnswer` or `JetStreamError`; `timeout` is seconds for one page.
    """

    def __init__(self, client: Client, stream: str, *, timeout: float = 5.0) -> None:
        self.stream = stream
        self._client = client
        self._timeout = timeout

    async def last(self, subject: str) -> StoredMessage | None:
        """The last message on a literal subject; may lag on a replicated stream."""
        try:
            return await LastMessage(self._client, self.stream, subject, self._timeout)
        except NoResponders:
            await self.check_stream()
            raise

    async def last_on(self, subject: str) -> StoredMessage | None:
        """The same as `last`, by a request for which nobody needs more rights than for `pages`."""
        found = await self._direct_get({"last_by_subj": subject})
        if found is not None:
            check_subject(found, subject)
        return found

    async def at(self, sequence: int, *, leader: bool = False) -> StoredMessage | None:
        """The message at a sequence; may lag on a replicated stream, unless `leader`."""
        request = {"seq": sequence}
        get = self._leader_get(request) if leader else self._direct_get(request)
        found = await get
        if found is not None and found.sequence != sequence:
            raise InvalidAnswer(f"sequence {sequence} was requested, and {found.sequence} answered")
        return found

    async def leader_last(self, subject: str) -> StoredMessage | None:
        """The last message on a subject, from the stream's leader."""
        return await self._leader_get({"last_by_subj": subject})

    async def leader_next(self, subject: str, after: int) -> StoredMessage | None:
        """The first message on a subject after a sequence, from the stream's leader."""
        return await self._leader_get({"seq": after + 1, "next_by_subj": subject})

    async def check_stream(self) -> None:
        """Raise `StreamMissing` if the stream does not exist."""
        await stream_info(self._client, self.stream, timeout=self._timeout)

    async def page(
        self, subject: str, after: int, max_messages: int = MAX_PAGE
    ) -> tuple[list[StoredMessage], int]:
        """The first messages on a subject after a sequence, and how many follow them; may lag.

        The subject may have wildcards. At most `max_messages`, `MAX_PAGE` and 8 MB, though always
        one if there is any.
        """
        page = await self._ask_page(
            BatchReplies(self.stream, subject, after),
            subject,
            seq=after + 1,
            next_by_subj=subject,
            batch=min(max_messages, MAX_PAGE),
            max_bytes=_PAGE_BYTES,
        )
        return page.messages, page.pending

    async def pages(
        self, subject: str, after: int = 0, *, leader: bool = False, max_messages: int = MAX_PAGE
    ) -> AsyncGenerator[list[StoredMessage], None]:
        """The messages on a literal subject after a sequence, oldest first, in pages.

        Ends where the log of the answering server ends, which may lag on a replicated stream; with
        `leader`, where the leader's ends. Never yields an empty page, nor one of more than
        `max_messages`.
        """
        while True:
            messages, pending = await self.page(subject, after, max_messages)
            if messages:
                yield messages
                after = messages[-1].sequence
            if pending == 0 or not messages:
                break
        if leader:  # up to what it has now: others may append as fast as this reads
            last = await self.leader_last(subject)
            end = 0 if last is None else last.sequence
            while after < end and (following := await self.leader_next(subject, after)) is not None:
                yield [following]
                after = following.sequence

    async def messages(self, subject: str, after: int = 0) -> AsyncGenerator[StoredMessage, None]:
        """All messages on a literal subject after a sequence, up to the leader's last."""
        async with aclosing(self.pages(subject, after, leader=True)) as pages:
            async for page in pages:
                for message in page:
                    yield message

    async def last_of_each(self, subjects: Sequence[str], until: int) -> list[StoredMessage]:
        """The last message up to a sequence on each subject that has one; may lag."""
        found: list[StoredMessage] = []
        for some in chunked(subjects, _MAX_SUBJECTS):
            page = await self._ask_page(
                BatchReplies(self.stream),
                f"{some[0]} and others",
                multi_last=some,
                up_to_seq=until,
            )
            found += page.messages
        return found

    async def _ask_page(self, page: BatchReplies, what: str, **request: object) -> BatchReplies:
        try:
            await _fill(self._client, page, what, self._timeout, **request)
        except NoResponders:
            await self.check_stream()
            raise
        return page

    async def _direct_get(self, request: object) -> StoredMessage | None:
        subject = self._client.api_subject(Api.DIRECT_GET.of(self.stream))
        try:
            answer = await self._client.request(subject, _encode(request), timeout=self._timeout)
        except NoResponders:
            await self.check_stream()
            raise
        return read_direct(answer, self.stream)

    async def _leader_get(self, request: dict[str, Any]) -> StoredMessage | None:
        return await leader_get(self._client, self.stream, request, timeout=self._timeout)
