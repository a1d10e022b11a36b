"""What protects the console in a browser: headers of every answer, and hosts."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_NO_STORE = "no-store"
_STORED = "public, max-age=86400"  # their addresses change when they do


class Protection:
    """ASGI middleware. `hosts` are the names that the console may be called by; None is any.

    A page of another name that resolves to this address could otherwise read the console (DNS
    rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {each.lower() for each in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        has_data = "/static/" not in scope["path"]

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", _NO_STORE if has_data else _STORED)
            await send(message)

        problem = self._problem(Headers(scope=scope))
        if problem is None:
            await self._app(scope, receive, send_protected)
        else:
            await PlainTextResponse(problem, 421)(scope, receive, send_protected)

    def _problem(self, headers: Headers) -> str | None:
        host = host_of(headers.get("host", ""))
        if self._hosts is None or host in self._hosts:
            return None
        return "This console does not answer under this name; console.hosts can allow it.\n"


def host_of(value: str) -> str:
    """The name in a `Host` header, or in `host:port`, without the port."""
    host = value.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.rpartition(":")[0] if host.count(":") == 1 else host
