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

_PAGE_HEADERS = (NatsHeader.NUM_PENDING, NatsHeader.LAST_SEQUENCE)

_END = re.compile(  # of most pages
    rf"NATS/1\.0 204 EOB\r\n{NatsHeader.NUM_PENDING}: ([0-9]{{1,19}})\r\n"
    rf"{NatsHeader.LAST_SEQUENCE}: ([0-9]{{1,19}})\r\n\r\n".encode()
)


class PageReplies:
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
        self.done = self.complete.done
        """Whether the last reply has arrived, or an error."""

    def set_result(self, reply: Message) -> None:
        """Take the next reply."""
        try:
            found = event_in(reply, self.stream) or self._read(reply)
            if found is not None:
                self._add(*found)
        except ClientError as error:
            self.set_exception(error)

    def set_exception(self, error: Exception) -> None:
        """Fail."""
        if not self.done():
            self.complete.set_exception(error)

    def _add(self, message: StoredMessage, before: int | None) -> None:
        self._check_order(before)
        if message.subject != self._subject:
            check_subject(message, self._subject)
        sequence, last = message.sequence, self._last or self._after
        if sequence <= last:
            raise InvalidAnswer(f"{self._subject}: sequence {sequence} was answered after {last}")
        self.messages.append(message)
        self._last = sequence

    def _read(self, reply: Message) -> tuple[StoredMessage, int | None] | None:
        """The message in any other reply, and the sequence before it; None for the last reply."""
        if (end := _END.fullmatch(reply.block)) is not None:
            self._check_order(int(end[2]))
            self._end(int(end[1]))
            return None
        headers = reply.headers or {}
        status = status_of(headers)
        before = decimal(headers.get(NatsHeader.LAST_SEQUENCE, "0"))
        if status is None:
            return stored_in(headers, reply.data, self.stream, _PAGE_HEADERS), before
        if status == 204:
            self._check_order(before)
        self._finish(status, headers)
        return None

    def _check_order(self, before: int | None) -> None:
        # Each reply names the sequence of the one before, which shows a lost reply.
        if before != self._last:
            raise RequestTimeout(f"a reply to a page was lost after sequence {self._last}")

    def _finish(self, status: int, headers: Mapping[str, str]) -> None:
        if status == 503:
            raise NoResponders("no responders for direct gets of this stream")
        if status not in (204, 404):
            raise JetStreamError(0, status, headers.get("Description", "direct get refused"))
        is_end = status == 204
        self._end(number_in(self._subject, headers, NatsHeader.NUM_PENDING) if is_end else 0)

    def _end(self, pending: int) -> None:
        self.pending = pending
        self.complete.set_result(None)
