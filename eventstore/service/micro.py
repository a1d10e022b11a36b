"""NATS micro (ADR-32): lets any NATS client find services and read their statistics.

nats-py's own implementation is not used: it replies on any reply subject and echoes the request's
headers, which would let whoever may send a PING publish in the service's name.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Self

import msgspec
from msgspec import Struct

from eventstore.client.responder import Answer, Reply, Request, error_reply
from eventstore.config import ServiceIdentity
from eventstore.errors import ConfigurationError, EventStoreError, QueryRefused
from eventstore.messages.envelope import format_timestamp
from eventstore.messages.text import make_log_records_safe

_TYPE = "io.nats.micro.v1.{}_response"
_NUMBER = r"(?:0|[1-9]\d*)"
_MARKS = r"(?:{0}(?:\.{0})*)"
_BEFORE = _MARKS.format(rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)")
_BUILD = _MARKS.format("[0-9A-Za-z-]+")
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_BEFORE})?(?:\+{_BUILD})?", re.ASCII)
_JSON = {"Content-Type": "application/json"}

_logger = make_log_records_safe(logging.getLogger(__name__))


def _failure(error: Exception) -> Reply:
    code, text = "500", "the request could not be processed"
    if isinstance(error, QueryRefused):
        code, text = error.code, error.message
    elif isinstance(error, EventStoreError):
        code, text = "503", str(error)
    reply = error_reply(code, text)
    return Reply(reply.payload, {**_JSON, **reply.headers})


class EndpointStats(Struct, kw_only=True):
    """An endpoint and its statistics; times are nanoseconds."""

    name: str
    subject: str
    queue_group: str
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0
    data: None = None

    def counting(self, answer: Answer) -> Answer:
        """The same answer, which is counted here; its exceptions are, too, and raised."""

        async def counted(request: Request) -> Reply:
            began = time.perf_counter_ns()
            try:
                return await answer(request)
            except Exception as error:
                self.num_errors += 1
                self.last_error = str(error)
                raise
            finally:
                self.num_requests += 1
                self.processing_time += time.perf_counter_ns() - began

        return counted

    def averaged(self) -> Self:
        """With the average of its times."""
        self.average_processing_time = self.processing_time // max(1, self.num_requests)
        return self


def endpoint_stats(subject: str, queue_group: str) -> EndpointStats:
    """The statistics of an endpoint that has answered nothing yet."""
    return EndpointStats(name=subject.replace(".", "-"), subject=subject, queue_group=queue_group)


class Micro:
    """A service instance in terms of NATS micro.

    `metadata` is public, as is that of endpoints, which `described` returns by subject. `others`
    returns endpoints that are answered elsewhere. Raises `ConfigurationError` for a version that is
    not a semantic version. Its answers are to be served by a `Responder`.
    """

    def __init__(
        self,
        identity: ServiceIdentity,
        metadata: Mapping[str, str],
        *,
        described: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
        others: Callable[[], Iterable[EndpointStats]] = tuple,
    ) -> None:
        if not _VERSION.fullmatch(identity.version):
            raise ConfigurationError(
                f"service {identity.name} {identity.version}: the version is not a semantic one, "
                "such as 1.2.3 or 1.2.3-rc.1"
            )
        self.id = secrets.token_hex(11)
        self._identity = identity
        self._metadata = dict(metadata)
        self._started = datetime.now(UTC)
        self._described = described
        self._others = others
        self._own: list[EndpointStats] = []

    def answers(self) -> dict[str, Answer]:
        """The answers on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`: plain, by name and by id."""
        verbs = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}
        return {
            f"$SRV.{verb}{suffix}": answer
            for verb, answer in verbs.items()
            for suffix in ("", f".{self._identity.name}", f".{self._identity.name}.{self.id}")
        }

    def endpoint(self, subject: str, answer: Answer) -> Answer:
        """Register an endpoint that each instance answers; exceptions become error replies."""
        stats = endpoint_stats(subject, self.id)  # in a queue group of its own: all reply
        self._own.append(stats)
        counted = stats.counting(answer)

        async def replied(request: Request) -> Reply:
            try:
                return await counted(request)
            except Exception as error:  # is reported to the client
                if not isinstance(error, EventStoreError):
                    _logger.exception("no answer on %s", subject)
                return _failure(error)

        return replied

    async def _ping(self, _request: Request) -> Reply:
        return self._reply("ping")

    async def _info(self, _request: Request) -> Reply:
        described = self._described()
        endpoints = [
            {
                "name": each.name,
                "subject": each.subject,
                "queue_group": each.queue_group,
                "metadata": described.get(each.subject, {}),
            }
            for each in self._all()
        ]
        return self._reply("info", description=self._identity.description, endpoints=endpoints)

    async def _stats(self, _request: Request) -> Reply:
        started = format_timestamp(self._started)
        endpoints = [each.averaged() for each in self._all()]
        return self._reply("stats", started=started, endpoints=endpoints)

    def _all(self) -> list[EndpointStats]:
        return [*self._own, *self._others()]

    def _reply(self, kind: str, **more: object) -> Reply:
        own = {"name": self._identity.name, "id": self.id, "version": self._identity.version}
        fields = {"type": _TYPE.format(kind), **own, "metadata": self._metadata, **more}
        return Reply(msgspec.json.encode(fields), _JSON)
