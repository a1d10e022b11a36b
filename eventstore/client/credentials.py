"""nats-py's connect options for servers, TLS and credentials, from the settings."""

from __future__ import annotations

import base64
import re
import ssl
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, SplitResult, unquote, urlsplit

import nkeys  # type: ignore[import-untyped]  # it has no annotations

from eventstore.config import AuthSettings, NatsSettings, TlsSettings
from eventstore.config.checks import read_file
from eventstore.errors import ConfigurationError

# A dead peer is detected after two unanswered pings.
_PING_SECONDS = 20
_MAX_UNANSWERED_PINGS = 2

# The client's own handler decides when to reconnect; nats-py uses this only when closing.
_RECONNECT_WAIT_SECONDS = 0.25

_JWT = re.compile(rb"BEGIN NATS USER JWT-+\s+(\S+)")
_SEED = re.compile(rb"BEGIN USER NKEY SEED-+\s+(\S+)")


def connect_options(settings: NatsSettings) -> dict[str, Any]:
    """The options of nats-py's `connect`, except name and callbacks.

    The credentials of the first URL that has some are used for all servers without, including
    discovered ones. Raises `ConfigurationError` if a certificate, key, seed or credentials file
    cannot be used.
    """
    in_urls = map(url_credentials, map(urlsplit, settings.servers))
    return {
        "servers": list(settings.servers),
        "connect_timeout": settings.retry.connect_timeout_ms / 1000,
        "allow_reconnect": settings.retry.max_reconnects != 0,
        "max_reconnect_attempts": settings.retry.max_reconnects,
        "reconnect_time_wait": _RECONNECT_WAIT_SECONDS,
        "ping_interval": _PING_SECONDS,
        "max_outstanding_pings": _MAX_UNANSWERED_PINGS,
        "inbox_prefix": settings.inbox_prefix,
        "pending_size": -1,  # nothing is buffered while disconnected
        **_tls_options(settings.tls),
        **(_auth_options(settings.auth) or next(filter(None, in_urls), {})),
    }


def requires_tls(settings: NatsSettings) -> bool:
    """Whether the settings require an encrypted connection in any way."""
    return settings.tls != TlsSettings() or any(
        urlsplit(url).scheme in ("tls", "wss") for url in settings.servers
    )


def _tls_options(tls: TlsSettings) -> dict[str, Any]:
    if tls == TlsSettings():
        return {}
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        files = ", ".join(str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file) if file)
        raise ConfigurationError(f"the TLS files {files} cannot be used: {error}") from error
    return {
        "tls": context,
        "tls_hostname": tls.server_name,
        "tls_handshake_first": tls.handshake_first,
    }


def _auth_options(auth: AuthSettings) -> dict[str, Any]:
    if auth.user is not None:
        return {"user": auth.user, "password": auth.password}
    if auth.token is not None:
        return {"token": auth.token}
    if auth.nkey_seed_file is not None:
        _check_seed(auth.nkey_seed_file, read_file(auth.nkey_seed_file).strip())
        return {"nkeys_seed": str(auth.nkey_seed_file)}
    if auth.credentials_file is not None:
        return _credentials_options(auth.credentials_file)
    return {}


def _credentials_options(path: Path) -> dict[str, Any]:
    # Read at each connect, because expired credentials are replaced in place. nats-py's own reader
    # never returns from a file without a JWT.
    def signature(nonce: str) -> bytes:
        signed: bytes = nkeys.from_seed(bytearray(_part(path, _SEED))).sign(nonce.encode())
        return base64.b64encode(signed)

    jwt = partial(_part, path, _JWT)
    jwt()
    _check_seed(path, _part(path, _SEED))
    return {"user_jwt_cb": jwt, "signature_cb": signature}


def _part(path: Path, pattern: re.Pattern[bytes]) -> bytes:
    match = pattern.search(read_file(path))
    if match is None:
        raise ConfigurationError(f"{path} does not contain both a user JWT and an nkey seed")
    return match[1]


def _check_seed(path: Path, seed: bytes) -> None:
    try:
        nkeys.from_seed(bytearray(seed)).sign(b"")
    except (nkeys.NkeysError, ValueError):
        raise ConfigurationError(f"{path} contains no nkey seed") from None  # the cause may show it


def url_credentials(url: SplitResult | ParseResult) -> dict[str, str | None]:
    """The credentials in a server's URL, percent-decoded; empty if it has none."""
    if url.username is None:
        return {}
    user = unquote(url.username)
    if url.password is None:
        return {"user": None, "password": None, "token": user}
    return {"user": user, "password": unquote(url.password), "token": None}
