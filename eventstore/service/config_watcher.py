"""The configuration watcher: applies the runtime configuration to a running service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

from eventstore.client.client import Client
from eventstore.concurrency.backoff import pause
from eventstore.concurrency.supervisor import FailureLog
from eventstore.errors import ConfigurationError, EventStoreError
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.topology import limit_messages
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import make_log_records_safe
from eventstore.service.runtime_config import KEYS, PAUSED, RuntimeConfig, Value

# A change is reported before the bucket has stored it, so it is read once more.
_RECHECK_SECONDS = 0.25

_logger = make_log_records_safe(logging.getLogger(__name__))
_library = logging.root.getChild("eventstore")  # the parent of all the modules' loggers


class Pausable(Protocol):
    """A component with projections that can be paused."""

    def pause(self, names: Collection[str]) -> Collection[str]:
        """Pause these projections, and resume all others; returns the names it does not know."""


class ConfigWatcher:
    """Applies the configuration at the start and whenever it changes; a component to be run.

    `queue_limit` is the default of `commands.queue_limit`; `pausable` has the projections that
    `projections.paused` names. A change takes effect when it is received, at the latest after
    `interval` seconds; an illegal value is logged, and the previous one stays in effect. Names of
    projections that the service does not have are logged, and not applied.

    `ready` is set when the configuration has been applied for the first time.
    """

    def __init__(
        self,
        client: Client,
        subjects: Subjects,
        *,
        queue_limit: int,
        pausable: Pausable | None = None,
        interval: float = 30.0,
    ) -> None:
        self._client = client
        self._subjects = subjects
        self._configuration = RuntimeConfig(client, subjects)
        self._queue_limit = queue_limit
        self._pausable = pausable
        self._interval = interval
        self._initial_level = _library.level
        self._applied: dict[str, Value | None] = {}
        self._changed = asyncio.Event()
        self._errors: dict[str, str] = {}  # the error of an illegal value, by key
        self._stopping = False
        self.ready = asyncio.Event()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Watch the configuration until `stop`, then restore the log level.

        Raises `StreamMissing` and `ClientError` if it cannot be read at the start, or the
        connection is closed for good; later failures are logged, and it is read again.
        """
        bucket = KeyValue(self._client, self._subjects.config_bucket)
        stop_watch = await bucket.watch(self._on_change, missed=self._changed.set)
        try:
            await self._apply_all()
            self.ready.set()
            await self._follow()
        finally:
            _library.setLevel(self._initial_level)
            await stop_watch()

    def _on_change(self, key: str, _: bytes) -> None:
        if key in KEYS:
            self._changed.set()

    async def _follow(self) -> None:
        failures = FailureLog("configuration", _logger)
        seconds = self._interval
        while True:
            changed = await pause(seconds, self._changed)
            self._changed.clear()
            if self._stopping:
                return
            try:
                await self._apply_all()
            except EventStoreError as error:
                if self._client.is_closed:
                    raise
                failures.note(error)
            else:
                failures.recovered()
            seconds = _RECHECK_SECONDS if changed else self._interval

    async def _apply_all(self) -> None:
        appliers: dict[str, Callable[[Value | None], Awaitable[None]]] = {
            "log_level": self._set_level,
            "commands.queue_limit": self._limit_queue,
            PAUSED: self._pause,
        }
        for key, apply in appliers.items():
            try:
                value = await self._configuration.get(key)
            except ConfigurationError as error:
                if self._errors.get(key) != str(error):
                    _logger.warning("configuration: %s; the previous value stays in effect", error)
                self._errors[key] = str(error)
                continue
            self._errors.pop(key, None)
            # Only changes: services with different defaults would overwrite each other's limit.
            if key not in self._applied or self._applied[key] != value:
                await apply(value)
                self._applied[key] = value

    async def _set_level(self, level: Value | None) -> None:
        _library.setLevel(self._initial_level if level is None else str(level).upper())

    async def _limit_queue(self, limit: Value | None) -> None:
        max_messages = limit if isinstance(limit, int) else self._queue_limit
        if await limit_messages(self._client, self._subjects.command_stream, max_messages):
            _logger.info("at most %d commands may wait", max_messages)

    async def _pause(self, names: Value | None) -> None:
        if self._pausable is not None:
            unknown = self._pausable.pause(names if isinstance(names, list) else ())
            if unknown:
                _logger.warning(
                    "configuration: %s names %s, which this service does not have: not applied",
                    PAUSED,
                    ", ".join(unknown),
                )
