"""Retries requests that a server cannot answer at the moment: no connection, or no leader.

Refused requests are not retried.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable
from operator import attrgetter

from eventstore.client.client import Client
from eventstore.concurrency.backoff import Backoff
from eventstore.concurrency.supervisor import Supervisor
from eventstore.errors import ClientError, ConnectionLost
from eventstore.messages.text import make_log_records_safe

_BACKOFF = Backoff(0.05, 2.0)
_CONNECT_SECONDS = 5.0

_logger = make_log_records_safe(logging.getLogger(__name__))


class Retry(Supervisor):
    """Retries requests to JetStream until `timeout` seconds after the first consecutive failure.

    It ends in any case when the client is closed. `what` names the work in log lines.
    """

    def __init__(
        self,
        client: Client,
        what: str,
        timeout: float = math.inf,
        *,
        passes: Callable[[ClientError], bool] = attrgetter("retryable"),
    ) -> None:
        def may_pass(error: Exception) -> bool:
            return isinstance(error, ClientError) and not client.is_closed and passes(error)

        super().__init__(what, _logger, _BACKOFF, passes=may_pass, timeout=timeout)
        self._client = client

    async def failed(self, error: Exception) -> None:
        """Wait before the retry, also for a connection; raises `error` if there is none."""
        await super().failed(error)
        with contextlib.suppress(ConnectionLost):
            await self._client.wait_connected(min(self.left, _CONNECT_SECONDS))
