"""A halted service: its log went back or is gone, so it answers health and does nothing else.

It stays so whatever restarts it, until the log fits again: restored, imported, or recovered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from eventstore.application.components import running
from eventstore.application.declaration import Declaration
from eventstore.application.observability import ready_over_http, serve_http
from eventstore.application.parts import Parts
from eventstore.application.read_models import checkpoints_of
from eventstore.application.server import opened_server
from eventstore.application.start import ReadCheckpoints, opened_log
from eventstore.client.client import Client, connect
from eventstore.concurrency.supervisor import FailureLog
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.errors import EventStoreError, LogDiverged, LogMissing, ReadSideFailed
from eventstore.messages.text import make_log_records_safe
from eventstore.recovery.log_record import Divergence, LogRecord
from eventstore.service.checks import ConnectionCheck
from eventstore.service.endpoints import ServiceEndpoints
from eventstore.service.health import Check, CheckResult, Health
from eventstore.service.metrics import Metrics

_HALTS = (LogDiverged.code, LogMissing.code)

_COMPARE_SECONDS = 5.0

_logger = make_log_records_safe(logging.getLogger(__name__))


def halts(error: EventStoreError) -> bool:
    """Whether a service halts for an error, of either of its processes, instead of ending."""
    code = error.cause_code if isinstance(error, ReadSideFailed) else error.code
    return code in _HALTS


class HaltedService:
    """A service that does nothing; `until_it_fits` returns when it may begin, and `fits` then."""

    def __init__(
        self,
        domain: Domain,
        settings: Settings,
        checkpoints: ReadCheckpoints | None,
        error: EventStoreError,
    ) -> None:
        self._domain = domain
        self._settings = settings
        self._checkpoints = checkpoints
        self.fits = False
        self._failures = FailureLog("halted", _logger)
        self._failures.error = error

    async def until_it_fits(self) -> None:
        """Compare the log every 5 seconds with what was seen of it, until it has all of that."""
        while True:
            await asyncio.sleep(_COMPARE_SECONDS)
            try:
                async with opened_log(self._domain, self._settings, checkpoints=self._checkpoints):
                    self.fits = True
                    return
            except EventStoreError as error:  # logged if it is another than before
                self._failures.note(error)


@asynccontextmanager
async def halted(
    app: Declaration, settings: Settings, directory: Path, parts: Parts, error: EventStoreError
) -> AsyncIterator[HaltedService]:
    """Answer health, discovery and metrics until the end of the block, and say why it halts."""
    identity, settings = app.identity(settings), settings.in_directory(directory)
    domain = app.domain.renamed(settings.nats.subject_prefix or app.domain.name)
    metrics = Metrics(service=identity.name, version=identity.version)
    async with (
        opened_server(settings, directory) as named,
        connect(named, name=identity.name) as client,
        serve_http(metrics, settings.operations.metrics_address) as http_server,
    ):
        found = await LogRecord(client, domain.codec.subjects).diverged(str(error))
        health = Health(identity.name, identity.version, _checks(client, found, str(error)))
        endpoints = ServiceEndpoints(client, domain.codec, health, identity, metrics=metrics)
        async with running(endpoints):
            await endpoints.ready.wait()
            with ready_over_http(http_server, health):
                reads = checkpoints_of(app, named) if parts.read_database else None
                yield HaltedService(domain, named, reads, error)


def _checks(client: Client, found: Divergence, problem: str) -> dict[str, Check]:
    facts = {"since": found.since}
    text = f"{problem}. Known since {found.since}"

    async def check_log() -> CheckResult:
        return CheckResult(status="unhealthy", problem=text, facts=facts)

    return {"connection": ConnectionCheck(client), "log": check_log}
