"""Direct reads from a stream: one message, or pages of one subject, without any consumer.

Built on direct get (ADR-31). Direct gets may be answered by a follower and so lag behind what
was just written on a replicated stream; the `leader_*` reads are answered by the leader.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from types import TracebackType
from typing import Any

import msgspec
from nats.aio.msg import Msg

from eventstore.answers import new_token
from eventstore.api_answers import MessageAnswer, StreamInfo, decimal
from eventstore.client import Client
from eventstore.errors import (
    ClientError,
    ConnectionLost,
    InvalidAnswer,
    JetStreamError,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    StreamMissing,
)
from eventstore.protocol import read_headers

__all__ = ["DirectReader", "StoredMessage", "leader_get", "read_direct"]

_NO_MESSAGE = 10037
_NO_STREAM = 10059
_GET_HEADERS = ("Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp")
_PAGE_HEADERS = (*_GET_HEADERS, "Nats-Num-Pending", "Nats-Last-Sequence")
_PAGE_BYTES = 8 * 1024 * 1024
_MOST_SUBJECTS = 64

_encode = msgspec.json.Encoder().encode


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as a stream holds it; `headers` are those it was published with."""

    subject: str
    sequence: int
    headers: dict[str, str]
    payload: bytes


class _Page:
    """The replies to one batched direct get, as they come in.

    All of them are to be of one stream and subject, each after the one before.
    """

    def __init__(self, stream: str = "", subject: str = ">", after: int = 0) -> None:
        self.messages: list[StoredMessage] = []
        self.pending = 0
        self._stream = stream
        self._subject = subject
        self._after = after
        self._last = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(self, message: Msg) -> None:
        if self.done.done():
            return
        try:
            self._take(message)
        except ClientError as error:
            self.fail(error)

    def _take(self, message: Msg) -> None:
        headers = message.headers or {}
        status = _status(headers)
        # The server names the one it sent before: a reply that got lost does not stay unseen.
        if status in (None, 204) and decimal(headers.get("Nats-Last-Sequence", "0")) != self._last:
            raise RequestTimeout(f"a reply to a page was lost after position {self._last}")
        if status is None:
            self._add(_stored(headers, message.data, self._stream, _PAGE_HEADERS))
        else:
            self._finish(status, headers)

    def _add(self, message: StoredMessage) -> None:
        _check_subject(message, self._subject)
        if message.sequence <= max(self._after, self._last):
            raise InvalidAnswer(
                f"{self._subject}: position {message.sequence} was answered after "
                f"{max(self._after, self._last)}"
            )
        self.messages.append(message)
        self._last = message.sequence

    def _finish(self, status: int, headers: dict[str, str]) -> None:
        if status == 204:
            self.pending = _number(self._subject, headers, "Nats-Num-Pending")
            self.done.set_result(None)
        elif status == 404:
            self.done.set_result(None)
        elif status == 503:
            raise NoResponders("nobody serves direct gets of this stream")
        else:
            raise JetStreamError(0, status, headers.get("Description", "direct get refused"))

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class DirectReader:
    """Reads of one stream over one inbox; an async context manager.

    Every read raises `StreamMissing`, `RequestTimeout`, `ConnectionLost`, `NoResponders` or
    `JetStreamError`; `timeout` is seconds for one page.
    """

    def __init__(
        self, client: Client, stream: str, *, page: int = 256, timeout: float = 5.0
    ) -> None:
        self.stream = stream
        self._client = client
        self._page_size = page
        self._timeout = timeout
        self._pages: dict[str, _Page] = {}
        self._inbox = client.new_inbox()

    async def __aenter__(self) -> DirectReader:
        self._subscription = await self._client.listen(f"{self._inbox}.*", self._receive)
        self._forget_disconnect = self._client.on_disconnect(self._disconnected)
        self._forget_denied = self._client.on_denied(self._denied)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget_disconnect()
        self._forget_denied()
        self._disconnected()
        await self._subscription.unsubscribe()

    async def last(self, subject: str) -> StoredMessage | None:
        """The last message on a subject; may lag on a replicated stream."""
        return await self._direct_get(f".{subject}", subject=subject)

    async def at(self, sequence: int, *, leader: bool = False) -> StoredMessage | None:
        """The message at a sequence; without `leader`, may lag on a replicated stream."""
        if leader:
            return _at(sequence, await self._leader_get({"seq": sequence}))
        return _at(sequence, await self._direct_get("", {"seq": sequence}))

    async def leader_last(self, subject: str) -> StoredMessage | None:
        """The last message on a subject, as the stream's leader knows it."""
        return await self._leader_get({"last_by_subj": subject})

    async def leader_next(self, subject: str, after: int) -> StoredMessage | None:
        """The first message on a subject after a sequence, as the stream's leader knows it."""
        return await self._leader_get({"seq": after + 1, "next_by_subj": subject})

    async def check_stream(self) -> None:
        """Raise `StreamMissing` where the stream does not exist."""
        with self._known_stream():
            await self._client.api(
                f"STREAM.INFO.{self.stream}", timeout=self._timeout, answer=StreamInfo
            )

    async def pages(
        self, subject: str, after: int = 0, *, leader: bool = False
    ) -> AsyncGenerator[list[StoredMessage], None]:
        """The messages on a literal subject after a sequence, oldest first, in pages.

        Ends when the answering server has no more, which may lag on a replicated stream; with
        `leader`, when the stream's leader has no more. Never yields an empty page.
        """
        while True:
            page = await self._page(subject, after)
            if page.messages:
                yield page.messages
                after = page.messages[-1].sequence
            if page.pending == 0 or not page.messages:
                break
        while leader and (following := await self.leader_next(subject, after)) is not None:
            yield [following]
            after = following.sequence

    async def messages(self, subject: str, after: int = 0) -> AsyncGenerator[StoredMessage, None]:
        """All messages on a literal subject after a sequence, up to the last the leader knows."""
        async with aclosing(self.pages(subject, after, leader=True)) as pages:
            async for page in pages:
                for message in page:
                    yield message

    async def last_of_each(self, subjects: Sequence[str], until: int) -> list[StoredMessage]:
        """The last message up to a sequence on each of some subjects that has any; may lag."""
        found: list[StoredMessage] = []
        for start in range(0, len(subjects), _MOST_SUBJECTS):
            some = subjects[start : start + _MOST_SUBJECTS]
            page = await self._ask_page(
                _Page(self.stream), f"{some[0]} and others", multi_last=some, up_to_seq=until
            )
            found += page.messages
        return found

    async def _page(self, subject: str, after: int) -> _Page:
        return await self._ask_page(
            _Page(self.stream, subject, after),
            subject,
            seq=after + 1,
            next_by_subj=subject,
            batch=self._page_size,
            max_bytes=_PAGE_BYTES,
        )

    async def _ask_page(self, page: _Page, what: str, **request: object) -> _Page:
        token = new_token()
        self._pages[token] = page
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.publish(
                    self._client.api_subject(f"DIRECT.GET.{self.stream}"),
                    _encode(request),
                    reply=f"{self._inbox}.{token}",
                )
                await page.done
        except TimeoutError:
            raise RequestTimeout(f"no complete page of {what} within {self._timeout:g} s") from None
        except NoResponders:
            await self.check_stream()
            raise
        finally:
            del self._pages[token]
        return page

    async def _direct_get(
        self, suffix: str, request: object = None, *, subject: str | None = None
    ) -> StoredMessage | None:
        try:
            answer = await self._client.request(
                self._client.api_subject(f"DIRECT.GET.{self.stream}{suffix}"),
                b"" if request is None else _encode(request),
                timeout=self._timeout,
            )
        except NoResponders:
            await self.check_stream()
            raise
        return read_direct(answer, self.stream, subject)

    async def _leader_get(self, request: dict[str, Any]) -> StoredMessage | None:
        with self._known_stream():
            return await leader_get(self._client, self.stream, request, timeout=self._timeout)

    @contextmanager
    def _known_stream(self) -> Iterator[None]:
        try:
            yield
        except JetStreamError as error:
            if error.err_code != _NO_STREAM:
                raise
            raise StreamMissing(
                f"stream {self.stream} does not exist; declare the topology first"
            ) from error

    def _receive(self, message: Msg) -> None:
        # Replies with a message carry the stream's subject in their headers only.
        page = self._pages.get(message.subject.rpartition(".")[2])
        if page is not None:
            page.receive(message)

    def _denied(self, subject: str) -> None:
        own = self._client.api_subject(f"DIRECT.GET.{self.stream}")
        if subject == own.lower():
            for page in self._pages.values():
                page.fail(PermissionDenied(f"the server forbids {own} to this user"))

    def _disconnected(self) -> None:
        for page in self._pages.values():
            page.fail(ConnectionLost("the connection broke while an aggregate was read"))


async def leader_get(
    client: Client, stream: str, request: dict[str, Any], *, timeout: float = 5.0
) -> StoredMessage | None:
    """The message that is asked for in `STREAM.MSG.GET`, as the leader has it; None for none.

    Raises `JetStreamError`, also where there is no such stream, and another `ClientError`.
    """
    suffix = f"STREAM.MSG.GET.{stream}"
    try:
        answer = await client.api(suffix, request, timeout=timeout, answer=MessageAnswer)
    except JetStreamError as error:
        if error.err_code == _NO_MESSAGE:
            return None
        raise
    found = answer.message
    message = StoredMessage(found.subject, found.seq, read_headers(found.hdrs), found.data)
    if (subject := request.get("last_by_subj") or request.get("next_by_subj")) is not None:
        _check_subject(message, subject)
    if message.sequence < request.get("seq", 1):
        raise InvalidAnswer(f"{suffix}: asked from {request['seq']} on, answered {found.seq}")
    return message


def read_direct(answer: Msg, stream: str, subject: str | None = None) -> StoredMessage | None:
    """Read the answer to a direct get of one message; None where there is none.

    Raises `JetStreamError` where it is an error, `InvalidAnswer` where it is no such answer, or is
    of another stream or subject.
    """
    headers = answer.headers or {}
    status = _status(headers)
    if status is None:
        message = _stored(headers, answer.data, stream, _GET_HEADERS)
        if subject is not None:
            _check_subject(message, subject)
        return message
    if status == 404:
        return None
    raise JetStreamError(0, status, headers.get("Description", "refused"))


def _status(headers: dict[str, str]) -> int | None:
    """The status that the server answers with in place of a message; None for a message.

    What is stored may have a header of this name too, but never comes without its sequence.
    """
    if "Nats-Sequence" in headers:
        return None
    status = decimal(headers.get("Status"))
    if status is None:
        raise InvalidAnswer("the answer to a direct get is neither a message nor a status")
    return status


def _stored(
    headers: dict[str, str], payload: bytes, stream: str, added: tuple[str, ...]
) -> StoredMessage:
    # Where the stored headers are malformed, the server adds its first to their broken end.
    if headers.get("Nats-Stream", stream) != stream or "Nats-Subject" not in headers:
        raise InvalidAnswer(f"a message of {stream} was asked for, and something else answered")
    sequence = _number(stream, headers, "Nats-Sequence")
    message = StoredMessage(headers["Nats-Subject"], sequence, headers, payload)
    for name in added:
        headers.pop(name, None)
    return message


def _number(asked: str, headers: dict[str, str], name: str) -> int:
    number = decimal(headers.get(name))
    if number is None:
        raise InvalidAnswer(f"{asked}: the answer says no {name}")
    return number


def _check_subject(message: StoredMessage, asked: str) -> None:
    """Raise unless the message is on the subject asked for, which may have wildcards."""
    if message.subject != asked and not _matches(message.subject.split("."), asked.split(".")):
        raise InvalidAnswer(f"{asked} was asked for, and a message of {message.subject} answered")


def _matches(subject: list[str], pattern: list[str]) -> bool:
    if pattern[-1] == ">":
        subject, pattern = subject[: len(pattern)], [*pattern[:-1], "*"]
    return len(subject) == len(pattern) and all(
        wanted in ("*", token) for token, wanted in zip(subject, pattern, strict=True)
    )


def _at(sequence: int, found: StoredMessage | None) -> StoredMessage | None:
    if found is not None and found.sequence != sequence:
        raise InvalidAnswer(f"position {sequence} was asked for, and {found.sequence} answered")
    return found
