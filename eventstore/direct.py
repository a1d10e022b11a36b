"""Direct reads from a stream: one message, or pages of one subject, without any consumer.

Built on direct get (ADR-31). Direct gets may be answered by a follower and so lag behind what
was just written on a replicated stream; the `leader_*` reads are answered by the leader.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

import msgspec
from nats.aio.msg import Msg

from eventstore.client import Client
from eventstore.errors import (
    ConnectionLost,
    JetStreamError,
    NoResponders,
    RequestTimeout,
    StreamMissing,
)

__all__ = ["DirectReader", "StoredMessage"]

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
    """The replies to one batched direct get, as they come in."""

    def __init__(self) -> None:
        self.messages: list[StoredMessage] = []
        self.pending = 0
        self._last = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def receive(self, message: Msg) -> None:
        headers = message.headers or {}
        status = _status(headers)
        if self.done.done():
            return
        # The server names the one it sent before: a reply that got lost does not stay unseen.
        if status in (None, "204") and int(headers.get("Nats-Last-Sequence", "0")) != self._last:
            self.fail(RequestTimeout(f"a reply to a page was lost after position {self._last}"))
        elif status is None:
            self.messages.append(_stored(headers, message.data, _PAGE_HEADERS))
            self._last = self.messages[-1].sequence
        else:
            self._finish(status, headers)

    def _finish(self, status: str, headers: dict[str, str]) -> None:
        if status == "204":
            self.pending = int(headers.get("Nats-Num-Pending", "0"))
            self.done.set_result(None)
        elif status == "404":
            self.done.set_result(None)
        elif status == "503":
            self.done.set_exception(NoResponders("nobody serves direct gets of this stream"))
        else:
            text = headers.get("Description", "direct get refused")
            self.done.set_exception(JetStreamError(0, int(status), text))

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
        self._client = client
        self._stream = stream
        self._page_size = page
        self._timeout = timeout
        self._pages: dict[str, _Page] = {}
        self._inbox = client.new_inbox()
        self._next = 0

    async def __aenter__(self) -> DirectReader:
        self._subscription = await self._client.listen(f"{self._inbox}.*", self._receive)
        self._forget_disconnect = self._client.on_disconnect(self._disconnected)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._forget_disconnect()
        self._disconnected()
        await self._subscription.unsubscribe()

    async def last(self, subject: str) -> StoredMessage | None:
        """The last message on a subject; may lag on a replicated stream."""
        return await self._direct_get(f".{subject}")

    async def at(self, sequence: int, *, leader: bool = False) -> StoredMessage | None:
        """The message at a sequence; without `leader`, may lag on a replicated stream."""
        if leader:
            return await self._leader_get({"seq": sequence})
        return await self._direct_get("", {"seq": sequence})

    async def leader_last(self, subject: str) -> StoredMessage | None:
        """The last message on a subject, as the stream's leader knows it."""
        return await self._leader_get({"last_by_subj": subject})

    async def leader_next(self, subject: str, after: int) -> StoredMessage | None:
        """The first message on a subject after a sequence, as the stream's leader knows it."""
        return await self._leader_get({"seq": after + 1, "next_by_subj": subject})

    async def check_stream(self) -> None:
        """Raise `StreamMissing` where the stream does not exist."""
        await self._api(f"STREAM.INFO.{self._stream}")

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
            page = await self._ask_page(f"{some[0]} and others", multi_last=some, up_to_seq=until)
            found += page.messages
        return found

    async def _page(self, subject: str, after: int) -> _Page:
        return await self._ask_page(
            subject,
            seq=after + 1,
            next_by_subj=subject,
            batch=self._page_size,
            max_bytes=_PAGE_BYTES,
        )

    async def _ask_page(self, what: str, **request: object) -> _Page:
        self._next += 1
        token = str(self._next)
        page = self._pages[token] = _Page()
        try:
            async with asyncio.timeout(self._timeout):
                await self._client.publish(
                    f"$JS.API.DIRECT.GET.{self._stream}",
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

    async def _direct_get(self, suffix: str, request: object = None) -> StoredMessage | None:
        try:
            answer = await self._client.request(
                f"$JS.API.DIRECT.GET.{self._stream}{suffix}",
                b"" if request is None else _encode(request),
                timeout=self._timeout,
            )
        except NoResponders:
            await self.check_stream()
            raise
        return _found(answer)

    async def _leader_get(self, request: dict[str, Any]) -> StoredMessage | None:
        try:
            answer = await self._api(f"STREAM.MSG.GET.{self._stream}", request)
        except JetStreamError as error:
            if error.err_code == _NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return StoredMessage(
            message["subject"],
            message["seq"],
            _parse_headers(base64.b64decode(message.get("hdrs", ""))),
            base64.b64decode(message.get("data", "")),
        )

    async def _api(self, suffix: str, request: object = None) -> dict[str, Any]:
        try:
            return await self._client.api(suffix, request, timeout=self._timeout)
        except JetStreamError as error:
            if error.err_code != _NO_STREAM:
                raise
            raise StreamMissing(
                f"stream {self._stream} does not exist; declare the topology first"
            ) from error

    def _receive(self, message: Msg) -> None:
        # Replies with a message carry the stream's subject in their headers only.
        page = self._pages.get(message.subject.rpartition(".")[2])
        if page is not None:
            page.receive(message)

    def _disconnected(self) -> None:
        for page in self._pages.values():
            page.fail(ConnectionLost("the connection broke while an aggregate was read"))


def _status(headers: dict[str, str]) -> str | None:
    """The server's status; None for a message, which may have been stored with any header."""
    return None if "Nats-Sequence" in headers else headers.get("Status")


def _stored(headers: dict[str, str], payload: bytes, added: tuple[str, ...]) -> StoredMessage:
    message = StoredMessage(
        headers["Nats-Subject"], int(headers["Nats-Sequence"]), headers, payload
    )
    for name in added:
        headers.pop(name, None)
    return message


def _found(answer: Msg) -> StoredMessage | None:
    headers = answer.headers or {}
    status = _status(headers)
    if status is None:
        return _stored(headers, answer.data, _GET_HEADERS)
    if status == "404":
        return None
    raise JetStreamError(0, int(status), headers.get("Description", "refused"))


def _parse_headers(block: bytes) -> dict[str, str]:
    lines = block.decode("utf-8", "replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
