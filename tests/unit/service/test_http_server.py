"""What a service shows by HTTP: metrics, whether it lives, and whether it is ready."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket

import pytest

from eventstore.errors import ConfigurationError
from eventstore.service.health import CheckResult, Health
from eventstore.service.http_server import HttpServer
from eventstore.service.metrics import Metrics

Page = tuple[int, str, bytes]


def fetch(server: HttpServer, path: str) -> Page:
    """Status, kind and body; blocks."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=15)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


async def fetched(server: HttpServer, path: str) -> Page:
    return await asyncio.to_thread(fetch, server, path)


async def test_metrics_are_served_until_the_end_of_the_block() -> None:
    metrics = Metrics()
    metrics.count("retries", operation="append")

    async with HttpServer(metrics) as server:
        assert server.host == "127.0.0.1"
        assert server.port > 0
        status, kind, body = await fetched(server, "/metrics")
        assert (status, kind) == (200, Metrics.content_type)
        assert b'eventstore_retries_total{operation="append"} 1.0' in body

    with pytest.raises(ConnectionRefusedError):
        await fetched(server, "/metrics")


async def test_it_lives_while_its_loop_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HttpServer(Metrics()) as server:
        assert await fetched(server, "/livez") == (200, "text/plain; charset=utf-8", b"ok\n")

        monkeypatch.setattr("eventstore.service.http_server._LIVE_SECONDS", 0.05)
        status, _, body = fetch(server, "/livez")  # the loop hangs until there is an answer
        assert (status, body) == (503, b"the event loop does not answer\n")


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (CheckResult(), 200),
        (CheckResult(status="degraded", problem="slow"), 200),
        (CheckResult(status="unhealthy", problem="gone"), 503),
    ],
)
async def test_it_is_ready_unless_it_is_unhealthy(result: CheckResult, status: int) -> None:
    async def check() -> CheckResult:
        return result

    async with HttpServer(Metrics()) as server:
        found, kind, body = await fetched(server, "/readyz")
        assert (found, kind) == (503, "application/json")
        assert json.loads(body) == {"status": "starting", "problems": {}}

        server.health = Health("svc", "1.0.0", {"database": check})
        found, _, body = await fetched(server, "/readyz")
        problems = {} if result.problem is None else {"database": result.problem}
        assert (found, json.loads(body)) == (
            status,
            {"status": result.status, "problems": problems},
        )


async def test_other_paths_are_not_found() -> None:
    async with HttpServer(Metrics()) as server:
        status, _, body = await fetched(server, "/")
        assert (status, body) == (404, b"/metrics, /livez or /readyz\n")


async def test_an_address_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"http://127\.0\.0\.1:{port}"):
            async with HttpServer(Metrics(), port=port):
                pass


async def test_no_such_host_or_port_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"\[fe80::zz\]"):
        async with HttpServer(Metrics(), host="fe80::zz"):
            pass
    with pytest.raises(ConfigurationError, match="70000"):
        async with HttpServer(Metrics(), port=70_000):
            pass
