"""Discovery: how services announce themselves, and how they are found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from eventstore.client.client import Client, Msg
from eventstore.concurrency.backoff import pause
from eventstore.messages.undecodable import UNDECODABLE

ANNOUNCEMENTS = "discovery.announce"
"""The subject on which every service announces that it starts, runs and stops."""

EndpointKind = Literal["command", "query", "service"]


class Endpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subject that a service accepts messages on.

    `type` is a command's; endpoints of kind "service" are about the service itself.
    """

    subject: str
    kind: EndpointKind
    type: str | None = None


class Announcement(Struct, frozen=True, kw_only=True):
    """A service instance's description of itself, published periodically and on request.

    `status` is "offline" in the last one. The next announcement follows within `interval_seconds`;
    a service that misses several of them is down. `capabilities` are the command types, and the
    queries as `{aggregate}.{action}`. `name` repeats the service's name, because cim-domain-nix has
    it beside `version`, `instance_id`, `description`, `capabilities` and `endpoints`.
    """

    service: str
    name: str = ""
    version: str
    instance_id: str
    description: str
    domain: str
    status: Literal["online", "offline"]
    timestamp: str
    interval_seconds: float
    capabilities: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]


class DiscoveredService(Struct, frozen=True, kw_only=True):
    """A service instance that has replied, or announced itself."""

    service: str
    version: str
    instance_id: str
    description: str
    endpoints: tuple[Endpoint, ...]

    @classmethod
    def announced(cls, announcement: Announcement) -> Self:
        """The service of an announcement."""
        return msgspec.convert(announcement, cls, from_attributes=True)


class _MicroEndpoint(Struct, frozen=True):
    subject: str


class _MicroInfo(Struct, frozen=True):
    """The reply to `$SRV.INFO`, of any service that implements NATS micro."""

    name: str
    version: str
    id: str
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    endpoints: tuple[_MicroEndpoint, ...] | None = None

    def service(self) -> DiscoveredService:
        messages = [
            *self._from_metadata("commands", "command"),
            *self._from_metadata("queries", "query"),
        ]
        listed = {each.subject for each in messages}
        subjects = [each.subject for each in self.endpoints or ()]
        own = [Endpoint(subject=each, kind="service") for each in subjects if each not in listed]
        return DiscoveredService(
            service=self.name,
            version=self.version,
            instance_id=self.id,
            description=self.description or "",
            endpoints=(*messages, *own),
        )

    def _from_metadata(self, name: str, kind: EndpointKind) -> list[Endpoint]:
        """Subjects in the metadata, which say what the endpoints are for."""
        subjects = str((self.metadata or {}).get(name) or "")
        return [Endpoint(subject=each, kind=kind) for each in subjects.split(",") if each]


_REQUEST_INTERVAL = 1.0
_decode_info = msgspec.json.Decoder(_MicroInfo).decode
_decode_announcement = msgspec.json.Decoder(Announcement).decode


async def discover(
    client: Client, seconds: float = 1.0, *, count: int | None = None
) -> list[DiscoveredService]:
    """The service instances that reply to `$SRV.INFO`, or announce themselves, within `seconds`.

    Returns earlier once `count` of them are found. Sorted by service and instance. The request is
    repeated each second, because NATS does not keep one that is lost. Malformed replies are
    ignored. That all are found is not guaranteed: a slow one is missed.
    """
    collector = _Collector(count)
    inbox = client.new_inbox()
    subscriptions = [
        await client.subscribe(ANNOUNCEMENTS, collector.announced),
        await client.subscribe(inbox, collector.answered),
    ]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _ask_until(collector.complete, client, inbox)
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()
    return [collector.found[key] for key in sorted(collector.found)]


async def _ask_until(complete: asyncio.Event, client: Client, inbox: str) -> None:
    while not complete.is_set():
        await client.publish("$SRV.INFO", reply=inbox)
        await pause(_REQUEST_INTERVAL, complete)


class _Collector:
    """Collects services by name and instance."""

    def __init__(self, count: int | None) -> None:
        self.found: dict[tuple[str, str], DiscoveredService] = {}
        self.complete = asyncio.Event()
        self._count = count

    async def announced(self, message: Msg) -> None:
        with suppress(*UNDECODABLE):
            announcement = _decode_announcement(message.data)
            found = DiscoveredService.announced(announcement)
            if announcement.status == "online":
                self.found[_key(found)] = found  # has more details than a reply
                self._check_complete()
            else:
                self.found.pop(_key(found), None)

    async def answered(self, message: Msg) -> None:
        with suppress(*UNDECODABLE):
            found = _decode_info(message.data).service()
            self.found.setdefault(_key(found), found)
            self._check_complete()

    def _check_complete(self) -> None:
        if self._count is not None and len(self.found) >= self._count:
            self.complete.set()


def _key(found: DiscoveredService) -> tuple[str, str]:
    return found.service, found.instance_id
