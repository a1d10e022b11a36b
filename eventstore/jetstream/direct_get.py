"""Direct reads from a stream: one message, or pages of one subject, without a consumer (ADR-31).

On a replicated stream a direct get may be answered by a follower, which lags behind the leader;
the `leader_*` reads are answered by the leader.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from eventstore.client.client import Client
from eventstore.concurrency.batching import Batchable
from eventstore.concurrency.chunks import chunked
from eventstore.concurrency.pages import Pages
from eventstore.errors import (
    InvalidAnswer,
    NoResponders,
    RequestTimeout,
)
from eventstore.jetstream.api import stream_info
from eventstore.jetstream.page_replies import PageReplies
from eventstore.jetstream.stored_message import (
    StoredMessage,
    check_subject,
    leader_get,
    read_direct,
)
from eventstore.jetstream.vocabulary import Api

MAX_PAGE = 256
"""Messages in a page at most."""

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
        what = f"{subjects[0]} and others"
        messages, pending = await _page(
            self._client, PageReplies(self._stream), what, self._timeout, multi_last=subjects
        )
        found = {message.subject: message for message in messages}
        if pending:  # they were too large for one page
            return [found.get(each._subject) or await each.alone() for each in batch]
        return [found.get(subject) for subject in subjects]


async def _page(
    client: Client, page: PageReplies, what: str, timeout: float, **request: object
) -> tuple[list[StoredMessage], int]:
    """Request a page: its messages, and how many follow them."""
    subject = client.api_subject(Api.DIRECT_GET.of(page.stream))
    forget = client.request_soon(page, subject, _encode(request), timeout=timeout)
    try:
        await page.complete
        return page.messages(), page.pending
    except RequestTimeout as error:
        raise RequestTimeout(f"no complete page of {what}: {error}") from None
    finally:
        forget()


class DirectReader:
    """Reads from one stream.

    `newest` is the highest sequence that a page has had so far.

    Every read raises `StreamMissing`, `RequestTimeout`, `ConnectionLost`, `NoResponders`,
    `PermissionDenied`, `InvalidAnswer` or `JetStreamError`; `timeout` is seconds for one page.
    """

    def __init__(self, client: Client, stream: str, *, timeout: float = 5.0) -> None:
        self.stream = stream
        self.newest = 0
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
        messages, pending = await self._ask_page(
            PageReplies(self.stream, subject, after),
            subject,
            seq=after + 1,
            next_by_subj=subject,
            batch=min(max_messages, MAX_PAGE),
            max_bytes=_PAGE_BYTES,
        )
        if messages:
            self.newest = max(self.newest, messages[-1].sequence)
        return messages, pending

    def pages(
        self, subject: str, after: int = 0, *, leader: bool = False, max_messages: int = MAX_PAGE
    ) -> Pages[StoredMessage]:
        """The messages on a literal subject after a sequence, oldest first.

        Ends where the log of the answering server ends, which may lag on a replicated stream; with
        `leader`, where the leader's ends. No page has more than `max_messages`.
        """
        return _SubjectPages(self, subject, after, leader, max_messages)

    async def messages(self, subject: str, after: int = 0) -> AsyncGenerator[StoredMessage, None]:
        """All messages on a literal subject after a sequence, up to the leader's last."""
        async for page in self.pages(subject, after, leader=True):
            for message in page:
                yield message

    async def last_of_each(self, subjects: Sequence[str], until: int) -> list[StoredMessage]:
        """The last message up to a sequence on each subject that has one; may lag."""
        found: list[StoredMessage] = []
        for some in chunked(subjects, _MAX_SUBJECTS):
            messages, _ = await self._ask_page(
                PageReplies(self.stream),
                f"{some[0]} and others",
                multi_last=some,
                up_to_seq=until,
            )
            found += messages
        return found

    async def _ask_page(
        self, page: PageReplies, what: str, **request: object
    ) -> tuple[list[StoredMessage], int]:
        try:
            return await _page(self._client, page, what, self._timeout, **request)
        except NoResponders:
            await self.check_stream()
            raise

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


class _SubjectPages(Pages[StoredMessage]):
    """The messages on a literal subject; see `DirectReader.pages`."""

    def __init__(
        self, reader: DirectReader, subject: str, after: int, leader: bool, max_messages: int
    ) -> None:
        self._reader = reader
        self._subject = subject
        self._after = after
        self._leader = leader
        self._max_messages = max_messages
        self._is_open = True
        self._end: int | None = None

    async def next_page(self) -> list[StoredMessage]:
        page: list[StoredMessage] = []
        if self._is_open:
            page, pending = await self._reader.page(self._subject, self._after, self._max_messages)
            self._is_open = bool(pending and page)
        if not page and self._leader:
            page = await self._next_of_leader()
        if page:
            self._after = page[-1].sequence
        return page

    async def _next_of_leader(self) -> list[StoredMessage]:
        """The next message up to what the leader had at first: others may append all the time."""
        if self._end is None:
            last = await self._reader.leader_last(self._subject)
            self._end = 0 if last is None else last.sequence
        if self._after >= self._end:
            return []
        following = await self._reader.leader_next(self._subject, self._after)
        return [] if following is None else [following]
