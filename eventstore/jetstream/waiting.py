"""How long the messages of a stream have been waiting for a reader."""

from __future__ import annotations

import time

from eventstore.client.client import Client
from eventstore.jetstream.direct_get import DirectReader


async def waiting_seconds(client: Client, stream: str, subject: str, after: int) -> float:
    """Seconds since the first message on a subject after a sequence was stored; 0 without one.

    The subject may have wildcards. By this machine's clock, compared with the server's. Raises as
    `DirectReader` does.
    """
    messages, _ = await DirectReader(client, stream).page(subject, after, 1)
    return max(0.0, time.time() - messages[0].time / 1e9) if messages else 0.0
