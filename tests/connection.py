"""Settings for a server of the tests; apart from the fixtures, for processes that have none."""

from __future__ import annotations

from typing import Any

from eventstore.client.client import Client
from eventstore.config import NatsSettings, RetrySettings, Settings

SOON = 9.0
"""Seconds: before a pull that hears nothing counts as lost (10) and an append gives up (15)."""


def settings_for(url: str, domain: str = "nix", **nats: Any) -> Settings:
    """Settings for the server at `url`, impatient enough for a test."""
    retry = RetrySettings(
        reconnect_delay_ms=10,
        max_reconnect_delay_ms=100,
        reconnect_jitter_ms=1,
        connect_timeout_ms=2_000,
        first_connect_ms=0,
    )
    return Settings(
        nats=NatsSettings(**{"subject_prefix": domain, "retry": retry, **nats})
    ).with_url(url)


def url_of(client: Client) -> str:
    """Where a client is connected, with its credentials; `client.url` leaves them out."""
    connected = client.nats.connected_url
    assert connected is not None
    return str(connected.geturl())
