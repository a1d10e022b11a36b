"""The replies to one batched direct get, which are a page of messages."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

from eventstore.client.api_answers import decimal
from eventstore.client.client import Message
from eventstore.errors import (
    ClientError,
    InvalidAnswer,
    JetStreamError,
    NoResponders,
    RequestTimeout,
)
from eventstore.jetstream.stored_message import (
    StoredMessage,
    check_subject,
    event_in,
    number_in,
    status_of,
    stored_in,
)
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.headers import Header

_PAGE_HEADERS = (NatsHeader.NUM_PENDING, NatsHeader.LAST_SEQUENCE)

_EVENT = f"NATS/1.0\r\n{Header.EVENT_ID}: ".encode()
_END = re.compile(  # of most pages
    rf"NATS/1\.0 204 EOB\r\n{NatsHeader.NUM_PENDING}: ([0-9]{{1,19}})\r\n"
    rf"{NatsHeader.LAST_SEQUENCE}: ([0-9]{{1,19}})\r\n\r\n".encode()
)


class PageReplies:
    """The replies to one batched direct get, kept as they arrive until `complete`.

    All must be messages of one stream and subject, in ascending sequence, after `after`.
    """

    def __init__(self, stream: str, subject: str = ">", after: int = 0) -> None:
        self.stream = stream
        self.pending = 0
        """How many messages follow the page."""
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.done = self.complete.done
        """Whether the last reply has arrived, or an error."""
        self._subject = subject
        self._after = after
        self._replies: list[Message | tuple[StoredMessage, int | None]] = []
        self._end: int | None = 0

    def set_result(self, reply: Message) -> None:
        """Take the next reply."""
        if reply.block.startswith(_EVENT):
            self._replies.append(reply)
            return
        try:
            self._take(reply)
        except ClientError as error:
            self.set_exception(error)

    def set_exception(self, error: Exception) -> None:
        """Fail."""
        if not self.done():
            self.complete.set_exception(error)

    def messages(self) -> list[StoredMessage]:
        """The messages of a complete page; raises a `ClientError` if they are not as requested."""
        # Events are read here, together: while a page is under way, it is only bytes.
        last, first, wanted = 0, self._after, self._subject
        messages: list[StoredMessage] = []
        for reply in self._replies:
            if isinstance(reply, Message):
                message, before = event_in(reply, self.stream) or self._read(reply)
            else:
                message, before = reply
            # Each reply names the sequence of the one before, which shows a lost reply.
            if before != last:
                raise _lost(last)
            if message.subject != wanted:
                check_subject(message, wanted)
            sequence = message.sequence
            if sequence <= (last or first):
                raise InvalidAnswer(
                    f"{wanted}: sequence {sequence} was answered after {last or first}"
                )
            messages.append(message)
            last = sequence
        if self._end not in (last, None):
            raise _lost(last)
        return messages

    def _take(self, reply: Message) -> None:
        """Read what may be anything else than an event."""
        if (end := _END.fullmatch(reply.block)) is not None:
            self._finish(int(end[1]), int(end[2]))
            return
        headers = reply.headers or {}
        status = status_of(headers)
        if status is None:
            self._replies.append(self._read(reply))
        elif status == 204:
            pending = number_in(self._subject, headers, NatsHeader.NUM_PENDING)
            self._finish(pending, _before(headers))
        elif status == 404:
            self._finish(0, None)
        elif status == 503:
            raise NoResponders("no responders for direct gets of this stream")
        else:
            raise JetStreamError(0, status, headers.get("Description", "direct get refused"))

    def _finish(self, pending: int, end: int | None) -> None:
        self.pending, self._end = pending, end
        self.complete.set_result(None)

    def _read(self, reply: Message) -> tuple[StoredMessage, int | None]:
        """The message in a reply, and the sequence before it."""
        headers = reply.headers or {}
        before = _before(headers)
        return stored_in(headers, reply.data, self.stream, _PAGE_HEADERS), before


def _before(headers: Mapping[str, str]) -> int | None:
    return decimal(headers.get(NatsHeader.LAST_SEQUENCE, "0"))


def _lost(last: int) -> RequestTimeout:
    return RequestTimeout(f"a reply to a page was lost after sequence {last}")
