"""Ownership: a stream's metadata name the application it belongs to, and the aggregates known.

Releases of one application may run side by side. The aggregates are those that any release has ever
declared, so that an older release, started last, takes none away. To retire one, or to hand a
stream over to another application, edit the stream's metadata.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from eventstore.client.api_answers import StreamInfo
from eventstore.client.client import Client
from eventstore.decider.domain import Domain
from eventstore.errors import ForeignStream, PermissionDenied
from eventstore.jetstream.api import stream_info, update_stream
from eventstore.messages.text import make_log_records_safe

_DOMAIN = "eventstore.domain"
_AGGREGATES = "eventstore.aggregates"
_LEFT = "eventstore.left"

_logger = make_log_records_safe(logging.getLogger(__name__))


class Owner(Struct, frozen=True):
    """An application as streams know it: its domain's declared name, and its aggregates."""

    domain: str
    aggregates: frozenset[str]

    @classmethod
    def of(cls, domain: Domain) -> Owner:
        """The owner of a domain's streams, under whatever subject prefix they are."""
        return cls(domain.declared_name, frozenset(domain.deciders))

    def check(self, info: StreamInfo) -> None:
        """Raise `ForeignStream` if the stream belongs to another application.

        A stream of a release that noted no owner belongs to whoever claims it first.
        """
        found = info.metadata.get(_DOMAIN, self.domain)
        if found != self.domain:
            raise ForeignStream(info.name, owner=found, application=self.domain)

    def noted_in(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """A stream's metadata with this owner noted, and with everything else as it is."""
        aggregates = sorted(self.aggregates | _listed(metadata))
        return {**metadata, _DOMAIN: self.domain, _AGGREGATES: ",".join(aggregates)}


async def claim(client: Client, owner: Owner, info: StreamInfo) -> None:
    """Note the owner in the metadata of a stream; nothing else of it is changed.

    Raises `ForeignStream`, and what `update_stream` raises. A user who may not change the stream
    goes on without the note. Two releases that claim at the same moment may lose each other's
    note, until the next claim.
    """
    owner.check(info)
    noted = owner.noted_in(info.metadata)
    if noted == info.metadata:
        return
    config: dict[str, Any] = {**info.config, "metadata": noted}
    try:
        await update_stream(client, info.name, config)
    except PermissionDenied as error:
        _logger.warning("%s: its owner cannot be noted: %s", info.name, error)


async def known_aggregates(client: Client, stream: str) -> frozenset[str]:
    """The aggregates that some release knows; raises what `stream_info` raises."""
    return _listed((await stream_info(client, stream)).metadata)


async def note_left(client: Client, stream: str, aggregate: str) -> None:
    """Note that a release has left commands of an aggregate to others.

    Raises what `stream_info` and `update_stream` raise.
    """
    info = await stream_info(client, stream)
    left = _listed(info.metadata, _LEFT)
    if aggregate not in left:
        noted = {**info.metadata, _LEFT: ",".join(sorted({*left, aggregate}))}
        await update_stream(client, stream, {**info.config, "metadata": noted})


async def left_aggregates(client: Client, stream: str) -> frozenset[str]:
    """The aggregates whose commands some release has left; raises what `stream_info` raises."""
    return _listed((await stream_info(client, stream)).metadata, _LEFT)


def _listed(metadata: Mapping[str, str], key: str = _AGGREGATES) -> frozenset[str]:
    return frozenset(filter(None, metadata.get(key, "").split(",")))
