"""Health checks of NATS: the connection, the streams, the command backlog."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from eventstore.client.api_answers import StreamInfo, StreamState
from eventstore.client.client import Client
from eventstore.errors import EventStoreError, InvalidAnswer, StreamMissing
from eventstore.jetstream.api import find_consumer, stream_info
from eventstore.jetstream.topology import ConsumerSpec, StreamSpec, check
from eventstore.messages.envelope import parse_timestamp
from eventstore.messages.text import counted
from eventstore.service.health import CheckResult, HealthStatus, worst
from eventstore.store.foreign import FINDINGS, LogFindings
from eventstore.telemetry import NO_TELEMETRY, Telemetry

_MAX_POSITIONS = 10
_MAX_TEXT = 300
_NOTHING: Mapping[str, int] = MappingProxyType({})


class ConnectionCheck:
    """Unhealthy without a connection, degraded for `unsettled` seconds after a reconnect."""

    def __init__(self, client: Client, *, unsettled: float = 30.0) -> None:
        self._client = client
        self._unsettled = unsettled
        self._reconnects = client.nats.stats["reconnects"]
        self._reconnected_at = -math.inf

    async def __call__(self) -> CheckResult:
        """Measure a round trip; raises what `Client.flush` raises."""
        began = time.perf_counter()
        await self._client.flush()
        rtt = time.perf_counter() - began
        reconnects = self._client.nats.stats["reconnects"]
        if reconnects != self._reconnects:
            self._reconnects, self._reconnected_at = reconnects, time.monotonic()
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


class StreamsCheck:
    """Unhealthy unless every declared stream and bucket exists as declared.

    Degraded if a replica of one is offline or behind, and if one contains foreign or unreadable
    messages: `findings`, by the stream's name, are those that its readers in this process have
    skipped.
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
        """Check all concurrently; the facts of each: status, messages, bytes, last position."""
        async with asyncio.TaskGroup() as group:
            tasks = {spec.name: group.create_task(self._check(spec)) for spec in self._specs}
        streams = {name: task.result() for name, task in tasks.items()}
        problems = [each["problem"] for each in streams.values() if "problem" in each]
        return CheckResult(
            status=worst(*(each["status"] for each in streams.values())),
            problem="; ".join(problems) or None,
            facts={"streams": streams},
        )

    async def _check(self, spec: StreamSpec) -> dict[str, Any]:
        try:
            await check(self._client, [spec])
            info = await stream_info(self._client, spec.name)
        except EventStoreError as error:
            return {"status": "unhealthy", "problem": str(error)}
        state = info.state
        self._telemetry.gauge("stream_messages", state.messages, stream=spec.name)
        return {
            **self._found(info).to_dict(),
            "messages": state.messages,
            "bytes": state.bytes,
            "last_position": state.last_seq,
        }

    def _found(self, info: StreamInfo) -> CheckResult:
        if info.behind:
            problem = f"{info.name}: the replica on {', '.join(info.behind)} is offline or behind"
            return CheckResult(status="degraded", problem=problem)
        findings = self._findings.get(info.name)
        return CheckResult() if findings is None else check_findings(findings)


class CommandsCheck:
    """Degraded if more than `max_pending` commands wait, or one longer than `max_age` seconds.

    `consumer` is the one that the command workers share. `left` are the aggregates whose commands
    this process leaves to other releases, with the number of deliveries.
    """

    def __init__(
        self,
        client: Client,
        consumer: ConsumerSpec,
        *,
        max_pending: int = 1000,
        max_age: float = 30.0,
        left: Mapping[str, int] = _NOTHING,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._client = client
        self._consumer = consumer
        self._max_pending = max_pending
        self._max_age = max_age
        self._left = left
        self._telemetry = telemetry

    async def __call__(self) -> CheckResult:
        """Check the consumer and its stream; raises `StreamMissing` and `ClientError`."""
        stream, name = self._consumer.stream, self._consumer.name
        info = await find_consumer(self._client, stream, name)
        if info is None:
            raise StreamMissing(
                f"consumer {name} of {stream} does not exist: no command worker has run"
            )
        state = (await stream_info(self._client, stream)).state
        oldest = _age(state, info.ts)
        facts: dict[str, Any] = {
            "pending": info.num_pending,
            "unacknowledged": info.num_ack_pending,
            "redelivered": info.num_redelivered,
            "oldest_seconds": oldest,
        }
        if self._left:
            facts["left_to_other_releases"] = dict(self._left)
        for each in ("pending", "unacknowledged"):
            self._telemetry.gauge("command_backlog", facts[each], state=each)
        self._telemetry.gauge("command_oldest_seconds", oldest)
        problems = self._problems(facts)
        status: HealthStatus = "degraded" if problems else "healthy"
        return CheckResult(status=status, problem="; ".join(problems) or None, facts=facts)

    def _problems(self, facts: dict[str, Any]) -> list[str]:
        problems = []
        if facts["pending"] > self._max_pending:
            problems.append(f"{counted(facts['pending'], 'command')} waiting")
        left = ", ".join(sorted(self._left))
        if left and facts["unacknowledged"] >= self._consumer.settings["max_ack_pending"]:
            problems.append(
                f"no more commands are delivered, as {facts['unacknowledged']:,} are not done, and "
                f"those of {left} among them are left to another release: start it"
            )
        if facts["oldest_seconds"] > self._max_age:
            note = f" (those of {left} are left to other releases)" if left else ""
            problems.append(f"a command has waited for {facts['oldest_seconds']:,.0f} s{note}")
        return problems


def check_findings(findings: LogFindings) -> CheckResult:
    """Degraded if readers have skipped messages.

    The facts of each kind of finding: the number, and the positions of the last 10.
    """
    problems, facts = [], dict[str, Any]()
    for kind, what in FINDINGS.items():
        if found := findings.by_position(kind):
            last = list(found)[-_MAX_POSITIONS:]
            count = findings.count(kind)
            facts[kind] = {"count": count, "positions": last}
            many = "" if count == 1 else "s"
            text = found[last[-1]][:_MAX_TEXT]
            problems.append(f"{count:,} {what}{many}, last at position {last[-1]}: {text}")
    status: HealthStatus = "degraded" if problems else "healthy"
    return CheckResult(status=status, problem="; ".join(problems) or None, facts=facts)


def _age(state: StreamState, now: str) -> float:
    """The age of the oldest message in seconds, by the server's clock."""
    if not state.messages:
        return 0.0
    try:
        waited = parse_timestamp(now) - parse_timestamp(state.first_ts)
    except (ValueError, OverflowError) as error:
        raise InvalidAnswer(
            f"the server's times {now!r} and {state.first_ts!r}: {error}"
        ) from error
    return max(0.0, round(waited.total_seconds(), 3))
