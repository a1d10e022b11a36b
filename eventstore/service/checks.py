"""Checks of what the service needs of NATS: the connection, the streams, the commands' progress."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from eventstore.client.api_answers import StreamState
from eventstore.client.client import Client
from eventstore.errors import EventStoreError, InvalidAnswer, StreamMissing
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.topology import ConsumerSpec, StreamSpec, check
from eventstore.messages.envelope import parse_timestamp
from eventstore.service.health import CheckResult, HealthStatus, worst
from eventstore.store.foreign import FINDINGS, LogFindings
from eventstore.telemetry import NO_TELEMETRY, Telemetry

__all__ = ["CommandsCheck", "ConnectionCheck", "StreamsCheck", "look_at_findings"]

_MOST_NAMED = 10
_MOST_TEXT = 300


class ConnectionCheck:
    """The server answers; degraded for `unsettled` seconds after a reconnect."""

    def __init__(self, client: Client, *, unsettled: float = 30.0) -> None:
        self._client = client
        self._unsettled = unsettled
        self._reconnects = self._count()
        self._reconnected_at = -math.inf

    async def __call__(self) -> CheckResult:
        """Measure a round trip; raises what `Client.flush` does."""
        began = time.perf_counter()
        await self._client.flush()
        rtt = time.perf_counter() - began
        if self._count() != self._reconnects:
            self._reconnects, self._reconnected_at = self._count(), time.monotonic()
        facts = {
            "url": self._client.url,
            "server_version": self._client.server_version,
            "rtt_ms": round(rtt * 1000, 3),
            "reconnects": self._reconnects,
            "malformed_messages": self._client.malformed_messages,
            "refused_answers": self._client.refused_answers,
        }
        if time.monotonic() - self._reconnected_at < self._unsettled:
            problem = f"the connection was lost within the last {self._unsettled:g} s"
            return CheckResult(status="degraded", problem=problem, facts=facts)
        return CheckResult(facts=facts)

    def _count(self) -> int:
        return self._client.nats.stats["reconnects"]


class StreamsCheck:
    """Every declared stream and bucket is there, and as declared.

    Degraded where what is in one is foreign or unreadable: `findings`, by the stream's name, are
    what its readers in this process have come upon.
    """

    def __init__(
        self,
        client: Client,
        specs: Iterable[StreamSpec],
        *,
        findings: Mapping[str, LogFindings] | None = None,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._findings = findings or {}
        self._specs = tuple(specs)
        self._telemetry = telemetry

    async def __call__(self) -> CheckResult:
        """Look at all of them at once; a fact for each: status, messages, bytes, last position."""
        async with asyncio.TaskGroup() as group:
            tasks = {spec.name: group.create_task(self._look_at(spec)) for spec in self._specs}
        streams = {name: task.result() for name, task in tasks.items()}
        problems = [each["problem"] for each in streams.values() if "problem" in each]
        return CheckResult(
            status=worst(*(each["status"] for each in streams.values())),
            problem="; ".join(problems) or None,
            facts={"streams": streams},
        )

    async def _look_at(self, spec: StreamSpec) -> dict[str, Any]:
        try:
            await check(self._client, [spec])
            state = (await stream_info(self._client, spec.name)).state
        except EventStoreError as error:
            return {"status": "unhealthy", "problem": str(error)}
        self._telemetry.gauge("stream_messages", state.messages, stream=spec.name)
        findings = self._findings.get(spec.name)
        found = CheckResult() if findings is None else look_at_findings(findings)
        return {
            **found.to_dict(),
            "messages": state.messages,
            "bytes": state.bytes,
            "last_position": state.last_seq,
        }


class CommandsCheck:
    """Commands are carried out: the backlog is short, and the oldest of it young.

    Degraded where more than `max_pending` commands wait, or one has waited longer than `max_age`
    seconds. `consumer` is the one that the command workers share.
    """

    def __init__(
        self,
        client: Client,
        consumer: ConsumerSpec,
        *,
        max_pending: int = 1000,
        max_age: float = 30.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._max_pending = max_pending
        self._max_age = max_age
        self._telemetry = telemetry

    async def __call__(self) -> CheckResult:
        """Ask the consumer and its stream; raises `StreamMissing` or another `ClientError`."""
        stream, name = self._consumer.stream, self._consumer.name
        info = await find_consumer(self._client, stream, name)
        if info is None:
            raise StreamMissing(
                f"consumer {name} of {stream} does not exist: no command worker has run"
            )
        state = (await stream_info(self._client, stream)).state
        oldest = _age(state, info.ts)
        facts = {
            "pending": info.num_pending,
            "unacknowledged": info.num_ack_pending,
            "redelivered": info.num_redelivered,
            "oldest_seconds": oldest,
        }
        self._tell(facts)
        problems = self._problems(facts)
        status: HealthStatus = "degraded" if problems else "healthy"
        return CheckResult(status=status, problem="; ".join(problems) or None, facts=facts)

    def _problems(self, facts: dict[str, Any]) -> list[str]:
        problems = []
        if facts["pending"] > self._max_pending:
            problems.append(f"{facts['pending']:,} commands wait")
        if facts["oldest_seconds"] > self._max_age:
            problems.append(f"a command has waited for {facts['oldest_seconds']:,.0f} s")
        return problems

    def _tell(self, facts: dict[str, Any]) -> None:
        for state in ("pending", "unacknowledged"):
            self._telemetry.gauge("command_backlog", facts[state], state=state)
        self._telemetry.gauge("command_oldest_seconds", facts["oldest_seconds"])


def look_at_findings(findings: LogFindings) -> CheckResult:
    """Degraded where readers have passed over something.

    A fact for each kind that there is: how many, and the positions of the last 10.
    """
    problems, facts = [], dict[str, Any]()
    for kind, what in FINDINGS.items():
        if found := findings.by_position(kind):
            last = list(found)[-_MOST_NAMED:]
            count = findings.count(kind)
            facts[kind] = {"count": count, "positions": last}
            many = "" if count == 1 else "s"
            text = found[last[-1]][:_MOST_TEXT]
            problems.append(f"{count:,} {what}{many}, last at position {last[-1]}: {text}")
    status: HealthStatus = "degraded" if problems else "healthy"
    return CheckResult(status=status, problem="; ".join(problems) or None, facts=facts)


def _age(state: StreamState, now: str) -> float:
    """Seconds that the oldest message has waited, by the server's own clock."""
    if not state.messages:
        return 0.0
    try:
        waited = parse_timestamp(now) - parse_timestamp(state.first_ts)
    except (ValueError, OverflowError) as error:
        raise InvalidAnswer(
            f"the server's times {now!r} and {state.first_ts!r}: {error}"
        ) from error
    return max(0.0, round(waited.total_seconds(), 3))
