"""NATS micro (ADR-32): how services are found by any NATS client, and what they count.

Here, and not by nats-py's own: that one answers on whatever reply subject it is given, and gives
the request's headers back, which would let whoever may send a PING write in the service's name.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from eventstore.client.responder import Answer, Reply, Request, error_reply
from eventstore.config import ServiceSettings
from eventstore.errors import ConfigurationError, EventStoreError
from eventstore.messages.envelope import format_timestamp
from eventstore.text import make_log_records_safe

__all__ = ["Micro", "MicroError"]

_TYPE = "io.nats.micro.v1.{}_response"
_NUMBER = r"(?:0|[1-9]\d*)"
_MARKS = r"(?:{0}(?:\.{0})*)"
_BEFORE = _MARKS.format(rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)")
_BUILD = _MARKS.format("[0-9A-Za-z-]+")
_VERSION = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_BEFORE})?(?:\+{_BUILD})?", re.ASCII)
_JSON = {"Content-Type": "application/json"}

_logger = make_log_records_safe(logging.getLogger(__name__))


class MicroError(Exception):
    """An answer that is an error, with the number that NATS micro's clients look at."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code


def _failure(error: Exception) -> Reply:
    code, text = "500", "the answer could not be made"
    if isinstance(error, MicroError):
        code, text = error.code, str(error)
    elif isinstance(error, EventStoreError):
        code, text = "503", str(error)
    reply = error_reply(code, text)
    return Reply(reply.payload, {**_JSON, **reply.headers})


class _Endpoint(Struct, kw_only=True):
    """An endpoint, and what it has counted; times are nanoseconds."""

    name: str
    subject: str
    queue_group: str
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0
    data: None = None


class Micro:
    """One instance of a service, as NATS micro has it.

    `metadata` is told to everybody. Raises `ConfigurationError` for a version that is no semantic
    version. What it is asked, and what its endpoints are, is answered by a `Responder`.
    """

    def __init__(self, settings: ServiceSettings, metadata: Mapping[str, str]) -> None:
        if not _VERSION.fullmatch(settings.version):
            raise ConfigurationError(
                f"service {settings.name} {settings.version}: the version is no semantic version, "
                "such as 1.2.3 or 1.2.3-rc.1"
            )
        self.id = secrets.token_hex(11)
        self._settings = settings
        self._metadata = dict(metadata)
        self._started = datetime.now(UTC)
        self._endpoints: list[_Endpoint] = []

    def answers(self) -> dict[str, Answer]:
        """What answers on `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, for all, by name and by id."""
        verbs = {"PING": self._ping, "INFO": self._info, "STATS": self._stats}
        return {
            f"$SRV.{verb}{whom}": answer
            for verb, answer in verbs.items()
            for whom in ("", f".{self._settings.name}", f".{self._settings.name}.{self.id}")
        }

    def endpoint(self, subject: str, answer: Answer) -> Answer:
        """Tell of an endpoint, and count what it is asked; its failures become answers."""
        endpoint = _Endpoint(
            name=subject.replace(".", "-"),
            subject=subject,
            queue_group=self.id,  # of its own, because each instance answers for itself
        )
        self._endpoints.append(endpoint)

        async def counted(request: Request) -> Reply:
            began = time.perf_counter_ns()
            try:
                return await answer(request)
            except Exception as error:  # who asks is told, and the others go on
                if not isinstance(error, MicroError | EventStoreError):
                    _logger.exception("no answer on %s", subject)
                endpoint.num_errors += 1
                endpoint.last_error = str(error)
                return _failure(error)
            finally:
                endpoint.num_requests += 1
                endpoint.processing_time += time.perf_counter_ns() - began
                endpoint.average_processing_time = endpoint.processing_time // endpoint.num_requests

        return counted

    async def _ping(self, _request: Request) -> Reply:
        return self._told("ping")

    async def _info(self, _request: Request) -> Reply:
        endpoints = [
            {**_fields(each, ("name", "subject", "queue_group")), "metadata": {}}
            for each in self._endpoints
        ]
        return self._told("info", description=self._settings.description, endpoints=endpoints)

    async def _stats(self, _request: Request) -> Reply:
        endpoints = [_fields(each, each.__struct_fields__) for each in self._endpoints]
        started = format_timestamp(self._started)
        return self._told("stats", started=started, endpoints=endpoints)

    def _told(self, what: str, **more: object) -> Reply:
        own = {"name": self._settings.name, "id": self.id, "version": self._settings.version}
        told = {"type": _TYPE.format(what), **own, "metadata": self._metadata, **more}
        return Reply(msgspec.json.encode(told), _JSON)


def _fields(endpoint: _Endpoint, names: Sequence[str]) -> dict[str, object]:
    return {name: getattr(endpoint, name) for name in names}
