"""Control: follows the domain's configuration while a service runs, and has it take effect."""

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
from eventstore.service.runtime_config import KEYS, RuntimeConfig, Value
from eventstore.text import make_log_records_safe

__all__ = ["ConfigWatcher", "Pausable"]

# A change is heard of before the bucket has stored it; a second look finds it there.
_SECOND_LOOK = 0.25

_logger = make_log_records_safe(logging.getLogger(__name__))
_library = logging.root.getChild("eventstore")  # whose level is that of all the modules' loggers


class Pausable(Protocol):
    """What has projections that can stand still."""

    def pause(self, names: Collection[str]) -> None:
        """Have these projections stand still, and all others go on."""


class ConfigWatcher:
    """Applies the configuration at the start and whenever it changes; a part to be run.

    `queue_limit` is what counts where `commands.queue_limit` is not set; `pausable` has the
    projections that `projections.paused` is about. A change takes effect at once where it is
    heard of, and within `interval` seconds otherwise; an illegal value is logged, and what was in
    effect stays so.

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
        self._own_level = _library.level
        self._applied: dict[str, Value | None] = {}
        self._woken = asyncio.Event()
        self._refused: dict[str, str] = {}  # by key, what was said of a value that is not one
        self._stopping = False
        self.ready = asyncio.Event()

    def stop(self) -> None:
        """Have `run` return."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Follow the configuration until `stop`; the log level is then what it was before.

        Raises `StreamMissing` and `ClientError` where it cannot be read at the start, or the
        connection was closed for good; after that, failures are logged and waited out.
        """
        bucket = KeyValue(self._client, self._subjects.config_bucket)
        stop_watch = await bucket.watch(self._heard, missed=self._woken.set)
        try:
            await self._apply_all()
            self.ready.set()
            await self._follow()
        finally:
            _library.setLevel(self._own_level)
            await stop_watch()

    def _heard(self, key: str, _: bytes) -> None:
        if key in KEYS:
            self._woken.set()

    async def _follow(self) -> None:
        failures = FailureLog("configuration", _logger)
        seconds = self._interval
        while True:
            woken = await pause(seconds, self._woken)
            self._woken.clear()
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
            seconds = _SECOND_LOOK if woken else self._interval

    async def _apply_all(self) -> None:
        for key, apply in self._appliers().items():
            try:
                value = await self._configuration.get(key)
            except ConfigurationError as error:
                if self._refused.get(key) != str(error):
                    _logger.warning("configuration: %s; nothing is changed", error)
                self._refused[key] = str(error)
                continue
            self._refused.pop(key, None)
            # Only what is new: services that were started differently would overrule each other.
            if key not in self._applied or self._applied[key] != value:
                await apply(value)
                self._applied[key] = value

    def _appliers(self) -> dict[str, Callable[[Value | None], Awaitable[None]]]:
        return {
            "log_level": self._set_level,
            "commands.queue_limit": self._limit_queue,
            "projections.paused": self._pause,
        }

    async def _set_level(self, level: Value | None) -> None:
        _library.setLevel(self._own_level if level is None else str(level).upper())

    async def _limit_queue(self, limit: Value | None) -> None:
        wanted = limit if isinstance(limit, int) else self._queue_limit
        if await limit_messages(self._client, self._subjects.command_stream, wanted):
            _logger.info("at most %d commands may wait", wanted)

    async def _pause(self, names: Value | None) -> None:
        if self._pausable is not None:
            self._pausable.pause(names if isinstance(names, list) else ())
