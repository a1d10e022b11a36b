"""Senders: who sent a command, according to the server.

Where commands cross accounts by a service import with `share: true`, the server says on each who
sent it, in a header that no sender can forge, because it is overwritten. But a stream stores its
messages without that header. So a worker hears commands a second time, as they are published, and
remembers who sent which bytes. What it did not hear, because no worker ran or the connection was
lost, has no known sender; nor has what came without an id, as equal bytes could be anybody's.

In one account the header is whatever the sender writes: this is for a service whose account
nobody else has a user in.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import AsyncExitStack

import msgspec

from eventstore.client.admission import request_info
from eventstore.client.client import Client, Msg
from eventstore.concurrency.resource import Resource
from eventstore.jetstream.vocabulary import NatsHeader
from eventstore.messages.envelope import AUTHENTICATED_AS, Header, legal_value
from eventstore.messages.subjects import Subjects
from eventstore.undecodable import UNDECODABLE

__all__ = ["UNREADABLE", "Senders"]

UNREADABLE = ""
"""The sender of what came with a word of the server's that is not to be read."""

_MOST = 20_000


class _Info(msgspec.Struct, frozen=True):
    """What a sender cannot choose, of all that the server says: `name`, for one, it can."""

    acc: str
    user: str = ""


_decode = msgspec.json.Decoder(_Info).decode


class Senders(Resource):
    """Who sent the commands heard last, 20,000 at the most; an async context manager."""

    def __init__(self, client: Client, subjects: Subjects) -> None:
        self._client = client
        self._subject = subjects.filter("cmd")
        self._known: OrderedDict[bytes, str | None] = OrderedDict()

    async def _enter(self, stack: AsyncExitStack) -> None:
        subscription = await self._client.listen(self._subject, self._hear)
        stack.push_async_callback(subscription.unsubscribe)
        await self._client.flush()  # from here on the server hands over all that is published

    def sender_of(self, message: Msg) -> str | None:
        """`{account}/{user}` of who sent a command; None where that is not known for certain.

        `UNREADABLE` where the server's word came in such a way that it may be the sender's.
        """
        return self._known.get(_key(message))

    def _hear(self, message: Msg) -> None:
        headers = message.headers or {}
        if headers.keys().isdisjoint((Header.EVENT_ID, Header.MESSAGE_ID)):
            return
        key, sender = _key(message), _sender(headers)
        if key in self._known and self._known[key] != sender:  # two have sent the same
            sender = UNREADABLE if UNREADABLE in (self._known[key], sender) else None
        self._known[key] = sender
        if len(self._known) > _MOST:
            self._known.popitem(last=False)


def _sender(headers: dict[str, str]) -> str | None:
    """Who sent a message; None where nothing says so, and `UNREADABLE` for what cannot be read."""
    # Behind headers that do not end as they should, it is part of the last one.
    if not any(NatsHeader.REQUEST_INFO in text for line in headers.items() for text in line):
        return None
    try:
        info = _decode(request_info(headers))
    except UNDECODABLE:
        return UNREADABLE
    name = f"{info.acc}/{info.user}" if info.user else info.acc
    return legal_value({AUTHENTICATED_AS: name}, AUTHENTICATED_AS) or UNREADABLE


def _key(message: Msg) -> bytes:
    """All of a message that its stream stores."""
    headers = sorted((message.headers or {}).items())
    stored = [(name, value) for name, value in headers if name != NatsHeader.REQUEST_INFO]
    return hashlib.blake2b(
        repr((message.subject, stored)).encode(errors="surrogatepass") + message.data,
        digest_size=16,
    ).digest()
