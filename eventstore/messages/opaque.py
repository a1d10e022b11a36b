"""Opaque events: a type name, bytes, and what describes them; the store does not interpret them.

For plug-ins of other libraries, whose events are encoded already, and for data in other formats
than JSON. They are appended, chained, verified, exported and read as all events are.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import ClassVar

from eventstore.errors import InvalidHeader, InvalidPayload
from eventstore.messages.envelope import Envelope
from eventstore.messages.headers import JSON, Header
from eventstore.messages.opaque_headers import METADATA, check_described, check_own
from eventstore.messages.types import Event

OCTETS = "application/octet-stream"
"""The content type of bytes of which nothing else is said."""


class OpaqueEvent(Event):
    """An event whose payload is bytes that the store does not interpret.

    `type` is 1 to 128 printable ASCII characters without space, and not the name of an event type
    of the domain. `headers` are stored as headers of the message; names that begin with `X-` or
    `Nats-`, and `Content-Type`, `traceparent`, `Status` and `Description`, are reserved. `metadata`
    is any bytes. The hash chain covers all of it, and what is read equals what was appended.

    Headers, metadata (a third larger, in Base64) and the event's envelope together are limited to
    64 KB, and with the payload to the server's `max_payload`.

    Deciders pass over opaque events, and the feed does not publish them. Projections get them in
    handlers of `OpaqueEvent`, `Event` or `StoredEvent`. They cannot have encrypted personal data.
    """

    __schema_version__: ClassVar[int] = 1

    type: str
    payload: bytes
    content_type: str = OCTETS
    headers: Mapping[str, str] = {}
    metadata: bytes = b""

    def checked(self) -> OpaqueEvent:
        """The same event if it may be appended.

        Raises `InvalidHeader` or `InvalidPayload`, naming what is wrong with it.
        """
        for name in ("payload", "metadata"):
            if not isinstance(getattr(self, name), bytes):
                raise InvalidPayload(f"{name} of {self.type!r:.80}: is not bytes")
        check_described({Header.EVENT_TYPE: self.type, Header.CONTENT_TYPE: self.content_type})
        if METADATA in self.headers:
            raise InvalidHeader(METADATA, "is reserved: use `metadata`")
        check_own(self.headers)
        return self

    @property
    def own_headers(self) -> dict[str, str]:
        """The headers that the event adds to its message, besides those of every event."""
        own = dict(self.headers)
        if self.metadata:
            own[METADATA] = binascii.b2a_base64(self.metadata, newline=False).decode()
        return own

    @classmethod
    def of(cls, envelope: Envelope, payload: bytes) -> OpaqueEvent:
        """An event of the log as an opaque one; one that is typed is JSON without headers.

        Raises `InvalidHeader` for metadata that is not Base64.
        """
        own = dict(envelope.opaque or {})
        encoded = own.pop(METADATA, "")
        try:
            metadata = binascii.a2b_base64(encoded, strict_mode=True) if encoded else b""
        except (binascii.Error, ValueError) as error:
            raise InvalidHeader(METADATA, f"is not Base64: {error}") from error
        content_type = envelope.content_type if envelope.opaque is not None else JSON
        return cls(
            type=envelope.type,
            payload=payload,
            content_type=content_type,
            headers=own,
            metadata=metadata,
        )
