"""The health check of storing: a message of its own is really stored, and no stream is frozen.

After a write error, of a full disk say, nats-server freezes the stream it was for: it answers no
publish and removes nothing until it is restarted, also when there is room again. All other
requests are answered as before, so that only a write tells.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

from eventstore.client.client import Client
from eventstore.errors import ConnectionLost, EventStoreError, PermissionDenied
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.stored_message import write_error
from eventstore.jetstream.topology import StreamSpec
from eventstore.messages.envelope import format_timestamp, utc_now
from eventstore.messages.subjects import Subjects
from eventstore.service.health import CheckResult

_INTERVAL = 10.0
_SECONDS = 1.0
_SILENT_SECONDS = 30.0
_HEARTBEAT_BYTES = 4_096
"""More than what is left of the block of the disk that was written last."""

_RESTART = "free space on its disk, then restart that nats-server"


class StorageCheck:
    """Unhealthy if the server stores nothing, or has frozen one of these streams.

    At most every `interval` seconds, and each time while there is a problem, the heartbeat of the
    `service` is put into the bucket of the runtime configuration, where it replaces the one before;
    and the streams are asked to delete a message that does not exist. One that refuses deletions
    answers no such request: for it counts what this process has published lately in vain.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        service: str,
        specs: Iterable[StreamSpec],
        *,
        interval: float = _INTERVAL,
    ) -> None:
        self._client = client
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=_SECONDS)
        self._key = f"heartbeat.{service}"
        self._specs = tuple(specs)
        self._interval = interval
        self._checked_at = -interval
        self._stored_at: str | None = None
        self._undeletable: set[str] = set()
        self._problems: Mapping[str, str] = {}

    async def __call__(self) -> CheckResult:
        """The fact `stored_at` is when the last heartbeat was stored; `frozen` are the streams."""
        if self._problems or time.monotonic() - self._checked_at >= self._interval:
            self._problems = await self._find_problems()
            self._checked_at = time.monotonic()
        facts = {"stored_at": self._stored_at, "frozen": sorted(self._problems)}
        if not self._problems:
            return CheckResult(facts=facts)
        problem = "; ".join(f"{name}: {each}" for name, each in self._problems.items())
        return CheckResult(status="unhealthy", problem=problem, facts=facts)

    async def _find_problems(self) -> dict[str, str]:
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(self._beat())
            probes = {spec.name: group.create_task(self._probe(spec)) for spec in self._specs}
        found = {name: task.result() for name, task in probes.items()}
        found[self._bucket.stream] = beat.result() or found.get(self._bucket.stream)
        return {name: problem for name, problem in found.items() if problem is not None}

    async def _beat(self) -> str | None:
        """Store a heartbeat; returns what is wrong."""
        now = format_timestamp(utc_now())
        try:
            await self._bucket.put(self._key, now.encode().ljust(_HEARTBEAT_BYTES))
        except (ConnectionLost, PermissionDenied):
            return None  # the former is reported by the check of the connection
        except EventStoreError as error:
            return f"a heartbeat is not stored: {error}; {_RESTART} if its disk is full"
        self._stored_at = now
        return None

    async def _probe(self, spec: StreamSpec) -> str | None:
        """What is wrong with a stream; None if nothing is, or nothing is known."""
        try:
            error = await self._write_error(spec)
        except PermissionDenied:
            self._undeletable.add(spec.name)
        except EventStoreError:
            return None  # which the checks of the connection and the streams report
        else:
            if error is not None:
                return f"frozen after a write error ({error}): it stores nothing; {_RESTART}"
        return self._silence(spec)

    async def _write_error(self, spec: StreamSpec) -> str | None:
        if spec.settings.get("deny_delete") or spec.name in self._undeletable:
            return None
        return await write_error(self._client, spec.name, timeout=_SECONDS)

    def _silence(self, spec: StreamSpec) -> str | None:
        """What this process has published lately, and the stream has not answered."""
        subjects: list[Any] = spec.settings["subjects"]
        since = time.monotonic() - _SILENT_SECONDS
        count = sum(
            at >= since and any(_matches(subject, each) for each in subjects)
            for at, subject in self._client.unanswered
        )
        if not count or spec.name == self._bucket.stream:
            return None
        return f"{count} publishes were not answered in the last {_SILENT_SECONDS:g} s; {_RESTART}"


def _matches(subject: str, pattern: str) -> bool:
    """Whether a subject is one of the stream's, which are literal up to the first wildcard."""
    prefix = pattern.partition("*")[0].partition(">")[0]
    return subject.startswith(prefix)
