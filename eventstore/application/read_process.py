"""The read side in a second process: started, restarted after a crash, asked for reports, stopped.

It is this program once more, with the same arguments (`eventstore.application.read_side`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

from eventstore.application.process_link import (
    VARIABLE,
    Failure,
    ProcessLink,
    Ready,
    Report,
    Request,
)
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import ReadSideFailed
from eventstore.messages.text import make_log_records_safe
from eventstore.service.health import CheckResult
from eventstore.service.metrics import Metrics
from eventstore.service.micro import EndpointStats

_NAME = "read_side"
_BACKOFF = Backoff(1.0, 30.0)
_REPORT_SECONDS = 3.0  # longer than one of its checks may take
_END_SECONDS = 5.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class ReadProcess:
    """The process with the read side; a component to be run.

    If it crashes after it was `ready`, it is started again, after a pause of a second, doubled up
    to half a minute while it crashes again; meanwhile `checks` are unhealthy. If it fails with an
    error that no retry can help, or before it was ready, `run` raises `ReadSideFailed`. It ends
    with the process that started it, whatever ends that. `metrics` get its samples.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stopping = asyncio.Event()
        self._supervisor = Supervisor(
            "service",
            _logger,
            _BACKOFF,
            passes=self._is_crash,
            interrupt=self._stopping,
        )
        self._process: Process | None = None
        self._link: ProcessLink | None = None  # while it is ready
        self._failure: Failure | None = None
        self._reported: asyncio.Future[Report] | None = None
        self._requests = 0
        self._starts = 0
        self.ready = asyncio.Event()
        self.read_model = ""
        self.queries: tuple[EndpointStats, ...] = ()

    def stop(self) -> None:
        """Have it finish its current work; `run` returns when it has ended."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    async def run(self) -> None:
        """Run it until `stop`; raises `ReadSideFailed`."""
        await self._supervisor.run(self._run_once)

    async def checks(self) -> Mapping[str, CheckResult]:
        """The results of its health checks, and that of the process itself, `read_side`."""
        try:
            async with asyncio.timeout(_REPORT_SECONDS):
                report = await self._report()
        except TimeoutError:
            self._metrics.include(_NAME, {})
            return {_NAME: self._own_check(self._problem())}
        self._metrics.include(_NAME, report.metrics)
        self.queries = report.queries
        details = report.health.details
        own = {name: each for name, each in details.items() if not isinstance(each, dict)}
        return {
            _NAME: self._own_check(None, **own),
            **{name: _result(**each) for name, each in report.health.checks.items()},
        }

    async def _report(self) -> Report:
        if self._link is None:
            raise TimeoutError
        self._requests += 1
        self._reported = asyncio.get_running_loop().create_future()
        self._link.send(Request(self._requests))
        return await self._reported

    def _own_check(self, problem: str | None, **facts: Any) -> CheckResult:
        pid = None if self._process is None else self._process.pid
        return CheckResult(
            status="healthy" if problem is None else "unhealthy",
            problem=problem,
            facts={"pid": pid, "restarts": max(0, self._starts - 1), **facts},
        )

    def _problem(self) -> str:
        if self._link is not None:
            return f"the process does not answer within {_REPORT_SECONDS:g} s"
        return f"{self._supervisor.error or 'the process'}; it is being started again"

    async def _run_once(self) -> None:
        if self._stopping.is_set():
            return
        self._starts += 1
        self._failure = None
        async with self._started() as (process, link):
            if self._stopping.is_set():
                return
            listening = asyncio.create_task(self._listen(link))
            try:
                status = await process.wait()
                self._link = None
                await asyncio.wait([listening], timeout=_END_SECONDS)
            finally:
                listening.cancel()
        if not self._stopping.is_set():
            raise self._error(status)

    @asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[Process, ProcessLink]]:
        """The process, with this end of its link; it has ended at the end of the block."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, *sys.orig_argv[1:]),
                env={**os.environ, VARIABLE: str(theirs.fileno())},
                stdin=PIPE,  # which it reads the end of, when this process has ended
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for this process, which then stops it
            )
        link = ProcessLink(ours)
        try:
            await link.connect()
            yield process, link
        finally:
            self._link = self._process = None
            await _end(process)
            await link.close()

    async def _listen(self, link: ProcessLink) -> None:
        while (message := await link.receive()) is not None:
            match message:
                case Ready():
                    self._take(message, link)
                case Failure():
                    self._failure = message
                case Report() if message.number == self._requests and self._reported is not None:
                    with suppress(asyncio.InvalidStateError):  # nobody waits any more
                        self._reported.set_result(message)

    def _take(self, message: Ready, link: ProcessLink) -> None:
        self._link = link
        self.read_model, self.queries = message.read_model, message.queries
        if self.ready.is_set():
            _logger.warning("the process of the read side is ready again")
            self._supervisor.error = None  # so that the next crash is logged, too
        self.ready.set()

    def _error(self, status: int) -> ReadSideFailed:
        if self._failure is not None:
            return ReadSideFailed(self._failure.text, self._failure.code)
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        return ReadSideFailed(f"the process of the read side ended with {how}")

    def _is_crash(self, _: Exception) -> bool:
        is_final = self._failure is not None and not self._failure.retryable
        return self.ready.is_set() and not is_final

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


def _result(status: Any, problem: str | None = None, **facts: Any) -> CheckResult:
    return CheckResult(status=status, problem=problem, facts=facts)


async def _end(process: Process) -> None:
    """End it, orderly if that is soon."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
