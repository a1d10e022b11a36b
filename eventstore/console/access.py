"""Access to the console: who a visitor is, what this visitor may do, and proof of both."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from starlette.requests import Request

from eventstore.config.checks import read_file
from eventstore.config.settings import ConsoleSettings
from eventstore.errors import ConfigurationError
from eventstore.messages.headers import RULES, Header
from eventstore.messages.undecodable import UNDECODABLE

LOCAL = "local"
"""The name of everybody, if there are no logins."""

SESSION_SECONDS = 12 * 3_600

_COOKIE = "eventstore_console"
_EVERYBODY = "*"
_MIN_TOKEN = 20
_NAME, _ = RULES[Header.ACTOR]
_LINE = re.compile(r"(\S+)\s+(\S+)")


class Visitor(Struct, frozen=True):
    """Who uses the console; `may_act` and `sees_personal` are rights.

    `nonce` is the session's: tokens of forms are bound to it.
    """

    name: str
    may_act: bool = False
    sees_personal: bool = False
    nonce: str = ""


def cookie_name(request: Request) -> str:
    """The cookie of a visitor's session: browsers send those of all ports of a host."""
    return f"{_COOKIE}_{request.url.port or request.url.scheme}"


FindVisitor = Callable[[Request], Visitor | None]
"""How an application that the console is mounted in says who its visitor is; None is nobody."""


class _Session(Struct, frozen=True):
    name: str
    nonce: str
    until: int


_decode_session = msgspec.json.Decoder(_Session).decode


class Access:
    """Finds the visitor of a request, by a cookie, a reverse proxy's header, or an application.

    Raises `ConfigurationError` for a file of tokens that cannot be used.
    """

    def __init__(self, settings: ConsoleSettings, find: FindVisitor | None = None) -> None:
        self._settings = settings
        self._find = find
        self._key = secrets.token_bytes(32)
        file = settings.tokens_file
        self._names = {} if file is None else _read_tokens(file)

    @property
    def has_form(self) -> bool:
        """Whether visitors log in by a form."""
        return bool(self._names)

    def visitor(self, request: Request) -> Visitor | None:
        """Who sent a request; None is somebody who has to log in first."""
        session = self._session(request.cookies.get(cookie_name(request), ""))
        nonce = "" if session is None else session.nonce
        if self._find is not None:
            found = self._find(request)
            return None if found is None else msgspec.structs.replace(found, nonce=nonce)
        if not self._settings.has_logins:
            return self._named(LOCAL, nonce)
        name = self._proxied(request)
        if name is None and session is not None and session.name in self._names.values():
            name = session.name
        return None if name is None else self._named(name, nonce)

    def name_of(self, token: str) -> str | None:
        """Whose token this is; None if it is nobody's."""
        return self._names.get(_digest(token))

    def new_session(self, name: str = "") -> str:
        """A cookie's value for a new session, of a name that has logged in, or of none."""
        session = _Session(name, secrets.token_hex(16), int(time.time()) + SESSION_SECONDS)
        body = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode()
        return f"{body}.{self._signature('session', body)}"

    def has_session(self, request: Request) -> bool:
        """Whether a request has a valid cookie."""
        return self._session(request.cookies.get(cookie_name(request), "")) is not None

    def form_token(self, nonce: str) -> str:
        """The token that the forms of a session contain."""
        return self._signature("form", nonce)

    def is_form_token(self, token: str, nonce: str) -> bool:
        """Whether a form was made for this session."""
        own = self.form_token(nonce)
        return bool(nonce) and hmac.compare_digest(token.encode(errors="replace"), own.encode())

    def session_nonce(self, cookie: str) -> str:
        """The nonce of a cookie's session; "" if it is not valid."""
        session = self._session(cookie)
        return "" if session is None else session.nonce

    def _named(self, name: str, nonce: str) -> Visitor:
        operators, personal = self._settings.operators, self._settings.personal
        return Visitor(
            name,
            may_act=name in operators or _EVERYBODY in operators,
            sees_personal=name in personal or _EVERYBODY in personal,
            nonce=nonce,
        )

    def _proxied(self, request: Request) -> str | None:
        header = self._settings.login_header
        if header is None:
            return None
        given = request.headers.getlist(header)
        return given[0] if len(given) == 1 and _NAME.fullmatch(given[0]) else None

    def _session(self, cookie: str) -> _Session | None:
        body, _, signature = cookie.partition(".")
        own = self._signature("session", body)
        if not hmac.compare_digest(signature.encode(errors="replace"), own.encode()):
            return None
        try:
            session = _decode_session(base64.urlsafe_b64decode(body))
        except (*UNDECODABLE, binascii.Error):
            return None
        return session if session.until > time.time() else None

    def _signature(self, purpose: str, text: str) -> str:
        message = f"{purpose}:{text}".encode(errors="replace")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()


def _read_tokens(file: Path) -> Mapping[str, str]:
    """The names by the digests of their tokens."""
    found: dict[str, str] = {}
    where = f"console.tokens_file: {file}"
    lines = read_file(file).decode(errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None or not _NAME.fullmatch(parts[1]):
            raise ConfigurationError(f"{where}, line {number}: write a name, a space and a token")
        if len(parts[2]) < _MIN_TOKEN:
            raise ConfigurationError(
                f"{where}, line {number}: the token of {parts[1]} is shorter than {_MIN_TOKEN} "
                "characters; make one with: openssl rand -hex 24"
            )
        if found.setdefault(_digest(parts[2]), parts[1]) != parts[1]:
            raise ConfigurationError(f"{where}, line {number}: another name has the same token")
    if not found:
        raise ConfigurationError(f"{where} has no token: write lines of a name and a token")
    return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
