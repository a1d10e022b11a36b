"""Checks of single values: converts what a source has to a setting's type, or refuses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import inspect

from eventstore.config.values import redacted_url
from eventstore.errors import ConfigurationError, EventStoreError
from eventstore.jetstream.vocabulary import API_PREFIX
from eventstore.messages.subjects import check_name
from eventstore.messages.undecodable import UNDECODABLE

LISTS = (
    "nats.url",
    "nats.reply_prefixes",
    "console.hosts",
    "console.operators",
    "console.personal",
)
"""Settings whose values may be one string, separated by commas."""

_REPLICAS = (1, 3, 5)  # an even number survives no more failures than the odd one below it
_WEBSOCKET = ("ws", "wss")
_SCHEMES = ("nats", "tls", *_WEBSOCKET)
_RESERVED = ("health", "discovery", "metrics", "_R_")  # first tokens that inboxes must not have
_INBOX_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){0,3}")
_API_PREFIX = re.compile(r"[A-Za-z0-9$_-]{1,64}(\.[A-Za-z0-9$_-]{1,64}){0,5}")
_MAX_PORT = 65_535
_WORDS = {
    "streams.replicas": ", ".join(map(str, _REPLICAS)),
    "nats.url": f"URLs of {', '.join(_SCHEMES)}",
    "nats.jetstream_domain": "up to 64 letters, digits, _ and -",
    "nats.service.name": "up to 64 letters, digits, _ and -",
    "nats.service.version": "a semantic version",
    "operations.metrics_address": f"host:port, with a port of 0 to {_MAX_PORT}",
    "console.address": f"host:port, with a port of 0 to {_MAX_PORT}",
    "console.hosts": "names of hosts, such as console.example",
    "console.login_header": "up to 64 letters, digits, _ and -",
}


def converted(key: str, kind: object, value: object, source: str) -> Any:
    """The value as the type of the setting `key`, which is `kind`.

    Raises `ConfigurationError`, which names the source, and the range if the value is not in it.
    """
    if key in LISTS and isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    try:
        result = msgspec.convert(value, kind, dec_hook=_from_string)
        if key in _CHECKS and result is not None:
            _CHECKS[key](result)
    except (*UNDECODABLE, EventStoreError) as error:
        problem = f"{source}: {error}{_range(kind, value)}"
        raise ConfigurationError(problem) from None  # the cause may show a secret
    return result


def check_file(path: Path, source: str) -> None:
    """Raise `ConfigurationError` if the file cannot be read."""
    try:
        path.open("rb").close()
    except (OSError, ValueError) as error:  # the latter for a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{source}: {path} cannot be read: {reason}") from None


def read_file(file: Path) -> bytes:
    """A file's content; raises `ConfigurationError` if it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error


def check_delays(source: str, first: int, longest: int) -> None:
    """Raise `ConfigurationError` if the first delay of a reconnect exceeds the longest."""
    if first > longest:
        raise ConfigurationError(
            f"{source}: the first delay, {first} ms, is longer than the longest, {longest} ms"
        )


def check_inboxes(source: str, prefixes: str | tuple[str, ...], domain: str | None) -> None:
    """Raise `ConfigurationError` if inboxes would be below the domain's subject prefix."""
    prefixes = (prefixes,) if isinstance(prefixes, str) else prefixes
    if any(prefix.partition(".")[0] == domain for prefix in prefixes):
        raise ConfigurationError(
            f"{source}: inboxes may not be below {domain}, which is the domain's subject prefix"
        )


def value_type(kind: object) -> inspect.Type:
    """The type of a setting's value, without None."""
    info = inspect.type_info(kind)
    if isinstance(info, inspect.UnionType):
        info = next(each for each in info.types if not isinstance(each, inspect.NoneType))
    return info


def allowed(key: str, kind: object) -> str:
    """The values that a setting may have, in words."""
    if key in _WORDS:
        return _WORDS[key]
    match value_type(kind):
        case inspect.IntType(ge=low, le=high):
            return f"{low} or more" if high is None else f"{low} to {high}"
        case inspect.BoolType():
            return "true, false"
        case inspect.CustomType(cls=cls) if issubclass(cls, Path):
            return "a file"
        case inspect.VarTupleType():
            return "a list of text"
        case _:
            return "text"


def _range(kind: object, value: object) -> str:
    """The allowed range, if the value is a number outside it."""
    info = value_type(kind)
    if not isinstance(info, inspect.IntType) or type(value) is not int or info.ge is None:
        return ""
    if info.ge <= value and (info.le is None or value <= info.le):
        return ""
    return f"; {value} is not in the allowed range, {allowed('', kind)}"


def _from_string(kind: Callable[[str], Any], value: object) -> Any:
    if isinstance(kind, type) and isinstance(value, Path) and isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if not value:
        raise ValueError("is empty")
    return kind(value)


def _check_servers(urls: tuple[str, ...]) -> None:
    for url in urls:
        _check_server(url)
    if len({urlsplit(url).scheme in _WEBSOCKET for url in urls}) > 1:
        raise ValueError("mixes WebSocket servers with others")


def _check_server(url: str) -> None:
    shown = redacted_url(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # After the last colon there may be a part of a password that contains a comma.
        shown = re.sub(r":[^:/\]]*$", ":***", shown) if "@" not in shown else shown
        raise ValueError(
            f"{shown!r} has no valid port or host; in a user, password or token the characters "
            "@ : / ? # % , are written as %40 and so on"
        ) from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{shown!r} must start with one of {', '.join(_SCHEMES)} and ://")
    if not parts.hostname:
        raise ValueError(f"{shown!r} names no host")
    if port == 0:
        raise ValueError(f"{shown!r} has port 0; ports are 1 to {_MAX_PORT}")


def _check_replicas(count: int) -> None:
    if count not in _REPLICAS:
        raise ValueError(f"{count} is none of {', '.join(map(str, _REPLICAS))}")


def _check_port(address: str) -> None:
    port = address.rpartition(":")[2]
    if port and int(port) > _MAX_PORT:
        raise ValueError(f"port {port} is not in the allowed range, 0 to {_MAX_PORT}")


def _check_inbox_prefix(prefix: str) -> None:
    if not _INBOX_PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix!r} is not a prefix for inboxes: up to four tokens of A-Z, a-z, 0-9, '_' and "
            "'-', with dots between and none at the end"
        )
    if (first := prefix.partition(".")[0]) in _RESERVED:
        raise ValueError(f"{prefix!r} is not a prefix for inboxes: {first} is reserved")


def _check_inbox_prefixes(prefixes: tuple[str, ...]) -> None:
    for prefix in prefixes:
        _check_inbox_prefix(prefix)


def _check_api_prefix(prefix: str) -> None:
    if not _API_PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix!r} is not a prefix of JetStream's API: a subject such as {API_PREFIX}, "
            "without a wildcard and without a dot at its end"
        )


_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "nats.url": _check_servers,
    "nats.subject_prefix": lambda value: check_name("subject prefix", value),
    "nats.inbox_prefix": _check_inbox_prefix,
    "nats.api_prefix": _check_api_prefix,
    "nats.reply_prefixes": _check_inbox_prefixes,
    "streams.replicas": _check_replicas,
    "operations.metrics_address": _check_port,
    "console.address": _check_port,
}
