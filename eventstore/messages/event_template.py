"""Writes events: the lines of their headers, and the chain value among them, in one step.

In the order in which `event_lines` reads them. What an event has in common with all of its type, or
of its append, is checked and put together once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from eventstore.messages.envelope import Envelope, Identity
from eventstore.messages.headers import JSON, Header

_ANY_ID = "00000000-0000-4000-8000-000000000000"
_ANY_TIME = "2000-01-01T00:00:00.000000Z"

_ID = f"{Header.EVENT_ID}: "
_CAUSATION = f"\r\n{Header.CAUSATION_ID}: "
_TIMESTAMP = f"\r\n{Header.TIMESTAMP}: "
_AGGREGATE = f"\r\n{Header.AGGREGATE_ID}: "
_VERSION = f"{Header.AGGREGATE_VERSION}: "
_CHAIN = f"\r\n{Header.CHAIN}: "


class EventTemplate:
    """What all events of one type have in common, as it stands in the headers and in the chain.

    An opaque event has a template of its own; `opaque` are the further headers that it has. Raises
    `InvalidHeader` if any of it is not legal.
    """

    __slots__ = ("after_id", "after_time", "chained_id", "chained_time", "chained_version", "name")

    def __init__(
        self,
        domain: str,
        name: str,
        schema_version: int = 1,
        content_type: str = JSON,
        opaque: Mapping[str, str] | None = None,
    ) -> None:
        Envelope(
            identity=Identity.root(_ANY_ID),
            type=name,
            domain=domain,
            timestamp=_ANY_TIME,
            schema_version=schema_version,
            content_type=content_type,
            opaque=opaque,
        ).to_headers()
        self.name = name
        self.after_id = f"\r\n{Header.EVENT_TYPE}: {name}\r\n{Header.CORRELATION_ID}: "
        self.after_time = (
            f"\r\n{Header.DOMAIN}: {domain}\r\n{Header.SCHEMA_VERSION}: {schema_version}\r\n"
            f"{Header.CONTENT_TYPE}: {content_type}\r\n{Header.MESSAGE_ID}: "
        )
        self.chained_id = f"\n{name}\n"
        self.chained_version = f"\n{schema_version}\n"
        self.chained_time = f"\n{domain}\n"


class EncodedEvent(Struct, frozen=True, gc=False):
    """An event that has all but its version and its chain value; nothing in it is checked.

    `optional` are the lines of the headers that not every event has, `chained` what the chain
    covers of them (`chained_optional`).
    """

    template: EventTemplate
    subject: str
    aggregate_id: str
    identity: Identity
    timestamp: str
    optional: str
    chained: str
    payload: bytes

    def written(self, previous: str, version: int) -> tuple[str, str]:
        """The lines of its headers as this version, and the chain value, which ends them.

        `previous` is the chain value of the aggregate's event before it.
        """
        template, time, aggregate_id = self.template, self.timestamp, self.aggregate_id
        identity = self.identity
        own, correlation, causation = identity.id, identity.correlation_id, identity.causation_id
        chained = (
            f"{previous}\n{self.subject}\n{own}{template.chained_id}{correlation}\n{causation}\n"
            f"{aggregate_id}\n{version}{template.chained_version}{time}{template.chained_time}"
            f"{self.chained}"
        )
        chain = hashlib.sha256(chained.encode() + self.payload).hexdigest()
        lines = (
            f"{_ID}{own}{template.after_id}{correlation}{_CAUSATION}{causation}{_TIMESTAMP}{time}"
            f"{template.after_time}{own}{_AGGREGATE}{aggregate_id}\r\n{self.optional}"
            f"{_VERSION}{version}{_CHAIN}{chain}\r\n"
        )
        return lines, chain
