"""Senders of commands, according to the server.

If commands cross accounts by a service import with `share: true`, the server names the sender of
each in a header that no sender can forge, because it is overwritten. But a stream stores its
messages without that header. So a worker also subscribes to the commands as they are published, and
remembers who sent which bytes. A command published while no worker ran, or while the connection was
lost, has no known sender; nor has one without an id, because anybody may send equal bytes.

Within one account the header is whatever the sender writes: this is only for a service whose
account has no other users.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import AsyncExitStack

from eventstore.client.admission import requester_in
from eventstore.client.client import Client, Msg
from eventstore.concurrency.resource import Resource
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.headers import AUTHENTICATED_AS, Header, legal_value
from eventstore.messages.subjects import Subjects

UNREADABLE = ""
"""The sender of a command whose header of the server cannot be read."""

_MAX_REMEMBERED = 20_000


class Senders(Resource):
    """The senders of the last 20,000 commands; an async context manager."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subject = subjects.filter("cmd")
        self._known: OrderedDict[bytes, str | None] = OrderedDict()

    async def _enter(self, stack: AsyncExitStack) -> None:
        subscription = await self._client.listen(self._subject, self._remember)
        stack.push_async_callback(subscription.unsubscribe)
        await self._client.flush()  # from here on the server delivers all that is published

    def sender_of(self, message: Msg) -> str | None:
        """The `{account}/{user}` that sent a command; None if it is not known for certain.

        `UNREADABLE` if the server's header cannot be distinguished from the sender's own.
        """
        return self._known.get(_key(message))

    def _remember(self, message: Msg) -> None:
        headers = message.headers or {}
        if headers.keys().isdisjoint((Header.EVENT_ID, Header.MESSAGE_ID)):
            return
        key, sender = _key(message), sender_in(headers)
        if key in self._known and self._known[key] != sender:  # two senders of equal bytes
            sender = UNREADABLE if UNREADABLE in (self._known[key], sender) else None
        self._known[key] = sender
        if len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)


def sender_in(headers: dict[str, str]) -> str | None:
    """The sender of a message; None if no header names it, `UNREADABLE` if it cannot be read."""
    # After a malformed header, the server's becomes part of that one.
    if not any(NatsHeader.REQUEST_INFO in text for line in headers.items() for text in line):
        return None
    requester = requester_in(headers)
    if requester is None:
        return UNREADABLE
    name = f"{requester.acc}/{requester.user}" if requester.user else requester.acc
    return legal_value({AUTHENTICATED_AS: name}, AUTHENTICATED_AS) or UNREADABLE


def _key(message: Msg) -> bytes:
    """A hash of all that the stream stores of a message."""
    headers = sorted((message.headers or {}).items())
    stored = [(name, value) for name, value in headers if name != NatsHeader.REQUEST_INFO]
    return hashlib.blake2b(
        repr((message.subject, stored)).encode(errors="surrogatepass") + message.data,
        digest_size=16,
    ).digest()
