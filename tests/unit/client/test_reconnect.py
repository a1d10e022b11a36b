from __future__ import annotations

from urllib.parse import urlparse

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Server

from eventstore.client.reconnect import ServerRotation
from eventstore.config import RetrySettings

SERVERS = [Server(urlparse(f"nats://{host}:4222")) for host in "abc"]


def steady(**retry: int) -> ServerRotation:
    return ServerRotation(RetrySettings(reconnect_jitter_ms=0, **retry))


def test_takes_the_servers_in_turn_and_doubles_the_delay_each_round() -> None:
    rotation = steady(reconnect_delay_ms=100, max_reconnect_delay_ms=350)
    tries = [rotation.next_server(SERVERS, {}) for _ in range(12)]
    assert [server for server, _ in tries] == SERVERS * 4
    assert [delay for _, delay in tries] == [0.1] * 3 + [0.2] * 3 + [0.35] * 6


def test_a_success_resets_the_server_and_the_delay() -> None:
    rotation = steady(reconnect_delay_ms=100)
    for _ in range(5):
        rotation.next_server(SERVERS[:1], {})
    rotation.reset()
    assert rotation.next_server(SERVERS[:1], {}) == (SERVERS[0], 0.1)


@given(jitter=st.integers(0, 1_000), attempts=st.integers(1, 100))
def test_never_waits_longer_than_the_limit_and_the_jitter(jitter: int, attempts: int) -> None:
    rotation = ServerRotation(RetrySettings(reconnect_jitter_ms=jitter))
    for _ in range(attempts):
        _, delay = rotation.next_server(SERVERS[:1], {})
        assert 0.25 <= delay <= (10_000 + jitter) / 1000


def test_the_pool_of_servers_may_shrink() -> None:
    rotation = steady()
    for count in (3, 3, 1, 2):
        server, _ = rotation.next_server(SERVERS[:count], {})
        assert server in SERVERS[:count]
