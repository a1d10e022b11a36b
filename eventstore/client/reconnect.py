"""Which server of the pool to try next, and after how long."""

from __future__ import annotations

import random
from typing import Any

from nats.aio.client import Server

from eventstore.config import RetrySettings

__all__ = ["Backoff"]

_MAX_DOUBLINGS = 30


class Backoff:
    """All servers in turn, and each round twice as patient as the one before, up to the limit."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        self._attempts = 0

    def next_server(self, servers: list[Server], _: dict[str, Any]) -> tuple[Server, float]:
        """The next server and the seconds to wait before it is tried; what nats-py asks for."""
        rounds, turn = divmod(self._attempts, len(servers))
        self._attempts += 1
        return servers[turn], self._delay(rounds)

    def next_round(self) -> float:
        """The seconds to wait before all servers are tried at once."""
        self._attempts += 1
        return self._delay(self._attempts - 1)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._attempts = 0

    def _delay(self, rounds: int) -> float:
        doubled: int = self._settings.reconnect_delay_ms * 2 ** min(rounds, _MAX_DOUBLINGS)
        delay = min(doubled, self._settings.max_reconnect_delay_ms)
        jitter = random.uniform(0, self._settings.reconnect_jitter_ms)  # noqa: S311  # no secret
        return (delay + jitter) / 1000
