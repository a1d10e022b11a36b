"""Reconnecting: which server of the pool to try next, and after which delay."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Server

from eventstore.concurrency.backoff import Backoff
from eventstore.config import RetrySettings

__all__ = ["ServerRotation"]


class ServerRotation:
    """Takes the servers in turn; the delay doubles with each round, up to the limit."""

    def __init__(self, settings: RetrySettings) -> None:
        self._backoff = Backoff(
            settings.reconnect_delay_ms / 1000,
            settings.max_reconnect_delay_ms / 1000,
            jitter=0,
            extra=settings.reconnect_jitter_ms / 1000,
        )
        self._attempts = 0

    def next_server(self, servers: list[Server], _: dict[str, Any]) -> tuple[Server, float]:
        """The next server and the seconds to wait before it is tried; what nats-py asks for."""
        rounds, turn = divmod(self._attempts, len(servers))
        self._attempts += 1
        return servers[turn], self._backoff.delay(rounds + 1)

    def next_round(self) -> float:
        """The seconds to wait before all servers are tried at once."""
        self._attempts += 1
        return self._backoff.delay(self._attempts)

    def reset(self) -> None:
        """Start from the first server and delay, after a success."""
        self._attempts = 0
