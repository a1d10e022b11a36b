"""Discovery: what services tell of themselves, and finding those that are there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal, Self

import msgspec
from msgspec import Struct

from eventstore.client.client import Client, Msg
from eventstore.concurrency.backoff import pause
from eventstore.undecodable import UNDECODABLE

__all__ = [
    "ANNOUNCEMENTS",
    "Announcement",
    "DiscoveredService",
    "Endpoint",
    "EndpointKind",
    "discover",
]

ANNOUNCEMENTS = "discovery.announce"
"""The subject on which every service tells that it is there, and that it goes."""

EndpointKind = Literal["command", "query", "service"]


class Endpoint(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A subject that a service takes messages on.

    Commands name the type they take; of kind "service" is what tells of the service itself.
    """

    subject: str
    kind: EndpointKind
    type: str | None = None


class Announcement(Struct, frozen=True, kw_only=True):
    """What a service tells of itself, by itself and when asked.

    `status` is "online", or "offline" for the goodbye. The next announcement comes within
    `interval_seconds`; a service that stays silent for several of them is gone. `capabilities`
    are the names of what it does: command types, and queries as `{aggregate}.{action}`. `name` is
    the service's once more, as cim-domain-nix has it beside `version`, `instance_id`,
    `description`, `capabilities` and `endpoints`.
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
    """A service instance that has answered, or told of itself."""

    service: str
    version: str
    instance_id: str
    description: str
    endpoints: tuple[Endpoint, ...]

    @classmethod
    def announced(cls, announcement: Announcement) -> Self:
        """As it was announced."""
        return cls(
            service=announcement.service,
            version=announcement.version,
            instance_id=announcement.instance_id,
            description=announcement.description,
            endpoints=announcement.endpoints,
        )


class _MicroEndpoint(Struct, frozen=True):
    subject: str


class _MicroInfo(Struct, frozen=True):
    """The answer to `$SRV.INFO`, of any service that speaks NATS micro."""

    name: str
    version: str
    id: str
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    endpoints: tuple[_MicroEndpoint, ...] | None = None

    def found(self) -> DiscoveredService:
        own = [Endpoint(subject=each.subject, kind="service") for each in self.endpoints or ()]
        return DiscoveredService(
            service=self.name,
            version=self.version,
            instance_id=self.id,
            description=self.description or "",
            endpoints=(
                *self._listed("commands", "command"),
                *self._listed("queries", "query"),
                *own,
            ),
        )

    def _listed(self, name: str, kind: EndpointKind) -> list[Endpoint]:
        """Subjects in the metadata, where our services list what NATS micro does not serve."""
        subjects = str((self.metadata or {}).get(name) or "")
        return [Endpoint(subject=each, kind=kind) for each in subjects.split(",") if each]


_decode_info = msgspec.json.Decoder(_MicroInfo).decode
_decode_announcement = msgspec.json.Decoder(Announcement).decode


async def discover(
    client: Client, seconds: float = 1.0, *, count: int | None = None
) -> list[DiscoveredService]:
    """The service instances that answer `$SRV.INFO`, or announce themselves, within `seconds`.

    Ends earlier once `count` of them are found. Sorted by service and instance. What cannot be
    understood is passed over. That all are found is not guaranteed: a slow one is missed.
    """
    search = _Search(count)
    inbox = client.new_inbox()
    subscriptions = [
        await client.subscribe(ANNOUNCEMENTS, search.announced),
        await client.subscribe(inbox, search.answered),
    ]
    try:
        await client.publish("$SRV.INFO", reply=inbox)
        await pause(seconds, search.complete)
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()
    return [search.found[key] for key in sorted(search.found)]


class _Search:
    """What has been found so far, by service and instance."""

    def __init__(self, count: int | None) -> None:
        self.found: dict[tuple[str, str], DiscoveredService] = {}
        self.complete = asyncio.Event()
        self._count = count

    async def announced(self, message: Msg) -> None:
        with suppress(*UNDECODABLE):
            announcement = _decode_announcement(message.data)
            found = DiscoveredService.announced(announcement)
            if announcement.status == "online":
                self.found[_key(found)] = found  # tells more than an answer does
                self._check_complete()
            else:
                self.found.pop(_key(found), None)

    async def answered(self, message: Msg) -> None:
        with suppress(*UNDECODABLE):
            found = _decode_info(message.data).found()
            self.found.setdefault(_key(found), found)
            self._check_complete()

    def _check_complete(self) -> None:
        if self._count is not None and len(self.found) >= self._count:
            self.complete.set()


def _key(found: DiscoveredService) -> tuple[str, str]:
    return found.service, found.instance_id
