"""Direct reads from a stream: one message, or pages of one subject, without a consumer (ADR-31).

On a replicated stream a direct get may be answered by a follower, which lags behind the leader;
the `leader_*` reads are answered by the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec

from eventstore.client.api_answers import decimal
from eventstore.client.client import Client, Message
from eventstore.client.replies import new_token
from eventstore.concurrency.batching import Batchable, own_task
from eventstore.concurrency.resource import Resource
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    InvalidAnswer,
    JetStreamError,
    NoResponders,
    PermissionDenied,
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
_PAGE_SIZE = 256
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

    @property
    def kind(self) -> Hashable:
        """The stream."""
        return self._client, self._stream

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
        subject = self._client.api_subject(Api.DIRECT_GET.of(self._stream))
        forget = self._client.request_soon(page, subject, _encode({"multi_last": subjects}))
        try:
            async with asyncio.timeout(self._timeout):
                await page.complete
        except TimeoutError:
            problem = f"no complete page of {subjects[0]} and others within {self._timeout:g} s"
            raise RequestTimeout(problem) from None
        finally:
            forget()
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
        self._stream = stream
        self._subject = subject
        self._after = after
        self._last = 0
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        """Whether the last reply has arrived, or an error."""
        return self.complete.done()

    def set_result(self, message: Message) -> None:
        """Take the next reply."""
        if self.done():
            return
        try:
            self._take(message)
        except ClientError as error:
            self.set_exception(error)

    def _take(self, message: Message) -> None:
        found = event_in_page(message, self._stream)
        if found is not None:
            event, before = found
            self._check_order(before)
            return self._add(event)
        headers = message.headers or {}
        status = status_of(headers)
        if status in (None, 204):
            self._check_order(decimal(headers.get(NatsHeader.LAST_SEQUENCE, "0")))
        if status is None:
            return self._add(stored_in(headers, message.data, self._stream, _PAGE_HEADERS))
        return self._finish(status, headers)

    def _check_order(self, before: int | None) -> None:
        # Each reply names the sequence of the one before, which shows a lost reply.
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
        if status == 204:
            self.pending = number_in(self._subject, headers, NatsHeader.NUM_PENDING)
        self.complete.set_result(None)

    def set_exception(self, error: Exception) -> None:
        """Fail."""
        if not self.done():
            self.complete.set_exception(error)


class DirectReader(Resource):
    """Reads from one stream over one inbox; an async context manager.

    Every read raises `StreamMissing`, `RequestTimeout`, `ConnectionLost`, `NoResponders` or
    `JetStreamError`; `timeout` is seconds for one page.
    """

    def __init__(self, client: Client, stream: str, *, timeout: float = 5.0) -> None:
        self.stream = stream
        self._client = client
        self._timeout = timeout
        self._pages: dict[str, BatchReplies] = {}
        self._inbox = client.new_inbox()

    async def _enter(self, stack: AsyncExitStack) -> None:
        self._subscription = await self._client.listen(f"{self._inbox}.*", self._receive)
        stack.push_async_callback(self._subscription.unsubscribe)
        stack.callback(self._disconnected)
        stack.callback(self._client.on_denied(self._denied))
        stack.callback(self._client.on_disconnect(self._disconnected))

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

    async def pages(
        self, subject: str, after: int = 0, *, leader: bool = False
    ) -> AsyncGenerator[list[StoredMessage], None]:
        """The messages on a literal subject after a sequence, oldest first, in pages.

        Ends where the log of the answering server ends, which may lag on a replicated stream; with
        `leader`, where the leader's ends. Never yields an empty page.
        """
        while True:
            page = await self._ask_page(
                BatchReplies(self.stream, subject, after),
                subject,
                seq=after + 1,
                next_by_subj=subject,
                batch=_PAGE_SIZE,
                max_bytes=_PAGE_BYTES,
            )
            if page.messages:
                yield page.messages
                after = page.messages[-1].sequence
            if page.pending == 0 or not page.messages:
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
        for start in range(0, len(subjects), _MAX_SUBJECTS):
            some = subjects[start : start + _MAX_SUBJECTS]
            page = await self._ask_page(
                BatchReplies(self.stream),
                f"{some[0]} and others",
                multi_last=some,
                up_to_seq=until,
            )
            found += page.messages
        return found

    async def _ask_page(self, page: BatchReplies, what: str, **request: object) -> BatchReplies:
        await own_task()  # which the timeout below needs
        token = new_token()
        self._pages[token] = page
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.publish(
                    self._client.api_subject(Api.DIRECT_GET.of(self.stream)),
                    _encode(request),
                    reply=f"{self._inbox}.{token}",
                )
                await page.complete
        except TimeoutError:
            raise RequestTimeout(f"no complete page of {what} within {self._timeout:g} s") from None
        except NoResponders:
            await self.check_stream()
            raise
        finally:
            del self._pages[token]
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

    def _receive(self, message: Message) -> None:
        # The subject of a reply is the inbox's; the stored subject is in a header.
        page = self._pages.get(message.subject.rpartition(".")[2])
        if page is not None:
            page.set_result(message)

    def _denied(self, subject: str) -> None:
        own = self._client.api_subject(Api.DIRECT_GET.of(self.stream))
        if subject == own.lower():
            for page in self._pages.values():
                page.set_exception(PermissionDenied(f"the server forbids {own} to this user"))

    def _disconnected(self) -> None:
        for page in self._pages.values():
            page.set_exception(ConnectionLost("the connection broke during a read"))
