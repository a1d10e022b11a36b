"""The service endpoints: discovery, health and metrics over NATS.

A service replies on `health.{service}`, `health.{domain}`, `discovery.{service}`,
`discovery.{domain}` and `metrics.{domain}`, announces itself on `discovery.announce`, and
implements the NATS micro protocol (`$SRV.PING`, `INFO`, `STATS`). Every instance replies, with its
id in `X-Instance-ID`: a client takes the first reply, or all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from eventstore.client.client import Client
from eventstore.client.responder import Answer, Reply, Request, Responder
from eventstore.concurrency.failures import ungrouped
from eventstore.config import ServiceIdentity
from eventstore.errors import ClientError, QueryRefused
from eventstore.messages.codec import Codec
from eventstore.messages.envelope import format_timestamp
from eventstore.messages.subjects import Subject
from eventstore.messages.text import make_log_records_safe
from eventstore.messages.undecodable import UNDECODABLE
from eventstore.service.discovery import ANNOUNCEMENTS, Announcement, Endpoint
from eventstore.service.health import Health
from eventstore.service.micro import EndpointStats, Micro

if TYPE_CHECKING:
    from eventstore.service.metrics import Metrics  # which loads prometheus_client

INSTANCE_ID = "X-Instance-ID"
"""The header with the id of the replying instance."""

_JSON = "application/json"
_STOP_SECONDS = 2.0

_logger = make_log_records_safe(logging.getLogger(__name__))

_Handler = Callable[[], Awaitable[tuple[bytes, str]]]


class ServiceEndpoints:
    """The endpoints of one service instance; a component to be run.

    `queries` returns the endpoints of the queries, which are answered elsewhere, and `described`
    the metadata of endpoints by their subjects, for the NATS micro protocol. `health` is
    checked every `sample_interval` seconds, so that changes are logged and gauges are current;
    `announce_interval` is in seconds too. Without `metrics`, `metrics.{domain}` replies with an
    error.

    Raises `ConfigurationError` for a version that NATS micro does not accept.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        health: Health,
        identity: ServiceIdentity,
        *,
        queries: Callable[[], Iterable[EndpointStats]] = tuple,
        described: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
        metrics: Metrics | None = None,
        announce_interval: float = 30.0,
        sample_interval: float = 5.0,
    ) -> None:
        self._client = client
        client.protect(codec.domain)
        self._health = health
        self._identity = identity
        self._metrics = metrics
        self._announce_interval = announce_interval
        self._sample_interval = sample_interval
        self._domain = codec.domain
        self._handlers = self._subjects()
        self._commands = _commands(codec)
        self._queries = [Endpoint(subject=each.subject, kind="query") for each in queries()]
        metadata = {
            "domain": self._domain,
            "commands": ",".join(each.subject for each in self._commands),
            "queries": ",".join(each.subject for each in self._queries),
        }
        self._micro = Micro(identity, metadata, described=described, others=queries)
        self._responder = self._new_responder()
        self._stopping = asyncio.Event()
        self.ready = asyncio.Event()

    @property
    def instance_id(self) -> str:
        """The id of this instance, the same in discovery and in NATS micro."""
        return self._micro.id

    def stop(self) -> None:
        """Announce that the service is offline, and end `run`."""
        self._stopping.set()

    async def run(self) -> None:
        """Reply until `stop`; `ready` is set when the first announcement is sent.

        Waits for a lost connection to come back. Raises `ClientError` if it cannot start, or the
        connection is closed for good.
        """
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._responder.run())
                try:
                    await self._responder.ready.wait()
                    await self._announce()
                    self.ready.set()
                    await self._announce_until_stopped()
                finally:
                    await self._announce_offline()
                    self._responder.stop()

    def announcement(self, status: Literal["online", "offline"] = "online") -> Announcement:
        """The current announcement."""
        served = [Endpoint(subject=subject, kind="service") for subject in self._handlers]
        queries = [Subject.split(each.subject) for each in self._queries]
        return Announcement(
            service=self._identity.name,
            name=self._identity.name,
            version=self._identity.version,
            instance_id=self.instance_id,
            description=self._identity.description,
            domain=self._domain,
            status=status,
            timestamp=format_timestamp(datetime.now(UTC)),
            interval_seconds=self._announce_interval,
            capabilities=(
                *(str(each.type) for each in self._commands),
                *(f"{each.aggregate}.{each.action}" for each in queries),
            ),
            endpoints=(*self._commands, *self._queries, *served),
        )

    async def _announce_until_stopped(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self._sample_interval, self._health.report))
            group.create_task(self._repeat(self._announce_interval, self._announce))

    async def _announce_offline(self) -> None:
        with suppress(ClientError, TimeoutError):  # not possible without a connection
            async with asyncio.timeout(_STOP_SECONDS):
                await self._announce("offline")

    async def _announce(self, status: Literal["online", "offline"] = "online") -> None:
        payload = msgspec.json.encode(self.announcement(status))
        await self._client.publish(ANNOUNCEMENTS, payload, headers={"Content-Type": _JSON})
        await self._client.flush()

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                await self._attempt(work)

    async def _attempt(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except ClientError as error:
            if self._client.is_closed:
                raise
            _logger.warning("service %s: %s", self._identity.name, error)

    def _subjects(self) -> dict[str, _Handler]:
        name = self._identity.name
        return {
            f"health.{name}": self._health_answer,
            f"health.{self._domain}": self._health_answer,
            f"discovery.{name}": self._discovery_answer,
            f"discovery.{self._domain}": self._discovery_answer,
            f"metrics.{self._domain}": self._metrics_answer,
        }

    async def _health_answer(self) -> tuple[bytes, str]:
        report = await self._health.report()
        return report.to_json(), _JSON

    async def _discovery_answer(self) -> tuple[bytes, str]:
        return msgspec.json.encode(self.announcement()), _JSON

    async def _metrics_answer(self) -> tuple[bytes, str]:
        if self._metrics is None:
            raise QueryRefused("501", "this service has no metrics")
        await self._health.report()  # updates the gauges
        return self._metrics.render(), self._metrics.content_type

    def _new_responder(self) -> Responder:
        own = {
            subject: self._micro.endpoint(subject, self._answer(handler))
            for subject, handler in self._handlers.items()
        }
        # In a queue group of its own, because every instance replies.
        return Responder(
            self._client,
            {**self._micro.answers(), **own},
            queue=self.instance_id,
            named=False,
        )

    def _answer(self, handler: _Handler) -> Answer:
        async def answer(request: Request) -> Reply:
            if not _is_acceptable(request.payload):
                raise QueryRefused("400", "the payload is neither empty nor a JSON object")
            payload, content_type = await handler()
            return Reply(payload, {"Content-Type": content_type, INSTANCE_ID: self.instance_id})

        return answer


def _commands(codec: Codec) -> list[Endpoint]:
    return [
        Endpoint(
            subject=codec.subjects.command(cls.__aggregate__, cls.__action__),
            kind="command",
            type=cls.__name__,
        )
        for cls in codec.command_types
    ]


def _is_acceptable(payload: bytes) -> bool:
    if not payload:
        return True
    try:
        msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    except UNDECODABLE:
        return False
    return True
