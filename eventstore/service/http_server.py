"""What a service shows by HTTP: its metrics, and whether it lives and is ready."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec

from eventstore.concurrency.resource import Resource
from eventstore.errors import ConfigurationError
from eventstore.service.health import Health
from eventstore.service.metrics import Metrics

__all__ = ["HttpServer"]

_LIVE_SECONDS = 5.0
_READY_SECONDS = 10.0
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"

T = TypeVar("T")
_Page = tuple[HTTPStatus, str, bytes]


class HttpServer(Resource):
    """Serves `/metrics`, `/livez` and `/readyz`, in threads; an async context manager.

    `/metrics` is Prometheus' text format. `/livez` has the status 200 if the event loop answers
    within five seconds. `/readyz` has it if a service is there, from `health`, and not unhealthy;
    otherwise 503. Its JSON has the status and the problems by check. With port 0, `port` is a free
    one after entering. It has neither encryption nor authentication, which is why it listens on the
    loopback address by default. Entering raises `ConfigurationError` if it cannot listen on the
    address.
    """

    def __init__(self, metrics: Metrics, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        self.health: Health | None = None
        self._pages: dict[str, Callable[[], _Page]] = {
            "/metrics": lambda: (HTTPStatus.OK, metrics.content_type, metrics.render()),
            "/livez": self._live,
            "/readyz": self._ready,
        }

    @property
    def url(self) -> str:
        """The URL, without a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def _enter(self, stack: AsyncExitStack) -> None:
        self._loop = asyncio.get_running_loop()
        server_class = _Server6 if ":" in self.host else _Server
        try:
            server = make_server(self.host, self.port, self._answer, server_class, _Handler)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(f"metrics cannot be served at {self.url}: {error}") from error
        self.port = server.server_port
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        stack.push_async_callback(asyncio.to_thread, _stop, server, thread)

    def _answer(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        page = self._pages.get(environ["PATH_INFO"])
        status, kind, body = (
            page() if page else (HTTPStatus.NOT_FOUND, _TEXT, b"/metrics, /livez or /readyz\n")
        )
        headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _live(self) -> _Page:
        try:
            self._in_loop(asyncio.sleep(0), _LIVE_SECONDS)
        except TimeoutError:
            return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"the event loop does not answer\n"
        return HTTPStatus.OK, _TEXT, b"ok\n"

    def _ready(self) -> _Page:
        if self.health is None:
            return _readiness("starting", {})
        try:
            report = self._in_loop(self.health.report(), _READY_SECONDS)
        except TimeoutError:
            return _readiness("unhealthy", {"service": "the event loop does not answer"})
        return _readiness(report.status, report.problems)

    def _in_loop(self, what: Awaitable[T], seconds: float) -> T:
        async def awaited() -> T:
            return await what

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        try:
            return future.result(seconds)
        except TimeoutError:
            future.cancel()
            raise


def _readiness(status: str, problems: dict[str, str]) -> _Page:
    is_ready = status in {"healthy", "degraded"}
    body = msgspec.json.encode({"status": status, "problems": problems}) + b"\n"
    return HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE, _JSON, body


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking a name server for the name of the host, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # seconds, of a client that says nothing

    def log_message(self, *_: object) -> None:
        """Log no requests."""


def _stop(server: WSGIServer, thread: Thread) -> None:
    server.shutdown()
    server.server_close()
    thread.join()
