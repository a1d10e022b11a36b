"""Contexts of the NATS command line (ADR-21) as a source of settings.

A context is a JSON file with what is needed to connect. Nothing is read unless one is named.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from eventstore.errors import ConfigurationError
from eventstore.messages.undecodable import UNDECODABLE

SELECTED = "@selected"
"""Names the context that `nats context select` has chosen."""

_DEFAULT_URL = "nats://localhost:4222"  # of a context without one
_FILES = {
    "creds": "nats.auth.credentials_file",
    "nkey": "nats.auth.nkey_seed_file",
    "cert": "nats.tls.cert_file",
    "key": "nats.tls.key_file",
    "ca": "nats.tls.ca_file",
}
_MAY_REFER = ("password", "token", *_FILES)
_REFERENCE = re.compile(r"[a-z]+://")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_FIELDS = {
    "url": "nats.url",
    "user": "nats.auth.user",
    "password": "nats.auth.password",
    "token": "nats.auth.token",
    **_FILES,
    "tls_first": "nats.tls.handshake_first",
    "inbox_prefix": "nats.inbox_prefix",
    "jetstream_domain": "nats.jetstream_domain",
    "jetstream_api_prefix": "nats.api_prefix",
}
# The last is for advisories, to which the library does not subscribe.
_WITHOUT_MEANING = ("name", "description", "color_scheme", "jetstream_event_prefix")
_PEM = "set cert, key and ca to PEM files"
_REFUSED = {
    "nsc": "write the credentials into a file, and set creds",
    "user_jwt": "write the JWT and its seed into a file, and set creds",
    "user_seed": "write the JWT and its seed into a file, and set creds",
    "socks_proxy": "connections through a proxy are not supported",
    "windows_cert_store": _PEM,
    "windows_cert_match_by": _PEM,
    "windows_cert_match": _PEM,
    "windows_ca_certs_match": _PEM,
}


def from_context(
    name: str, source: str, environ: Mapping[str, str]
) -> Iterator[tuple[str, object, str]]:
    """Each setting that the context has: its key, its value and where it is.

    Empty fields count as unset, and the url of a context without one is that of NATS. Raises
    `ConfigurationError` for a context that cannot be read, and for a field that has a value and is
    unknown or not supported.
    """
    path = _path(name, source, environ)
    fields = {"url": _DEFAULT_URL} | _read(path, source)
    for field, value in fields.items():
        if field in _FIELDS:
            yield _FIELDS[field], _value(field, value, path, environ), f"{path}: {field}"
        elif field not in _WITHOUT_MEANING:
            raise ConfigurationError(f"{path}: {field} {_problem(field)}")


def _path(name: str, source: str, environ: Mapping[str, str]) -> Path:
    """The file of a context."""
    folder = Path(environ.get("XDG_CONFIG_HOME") or _home(environ) / ".config") / "nats"
    if name == SELECTED:
        name, source = _selected(folder / "context.txt", source), f"{folder / 'context.txt'}"
    if not name or ".." in name or any(each in name for each in "/\\\0"):
        raise ConfigurationError(f"{source}: {name!r} is not the name of a context")
    return folder / "context" / f"{name}.json"


def _missing(path: Path, source: str) -> ConfigurationError:
    known = sorted(each.stem for each in path.parent.glob("*.json"))
    near = difflib.get_close_matches(path.stem, known, n=1)
    question = f"; did you mean {near[0]}?" if near else ""
    return ConfigurationError(f"{source}: there is no context {path.stem!r} ({path}){question}")


def _selected(file: Path, source: str) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise ConfigurationError(
            f"{source}: no context is selected ({file} cannot be read); name one"
        ) from None


def _read(path: Path, source: str) -> dict[str, object]:
    """The fields that have a value."""
    try:
        fields = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except FileNotFoundError:
        raise _missing(path, source) from None
    except OSError as error:
        raise ConfigurationError(
            f"{path} (named by {source}) cannot be read: {error.strerror}"
        ) from error
    except UNDECODABLE:  # whose text may show a secret
        raise ConfigurationError(f"{path} (named by {source}) is not a JSON object") from None
    return {name: value for name, value in fields.items() if value not in ("", None, False, [])}


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _value(field: str, value: object, path: Path, environ: Mapping[str, str]) -> object:
    """A value as the settings have it, with what the NATS command line replaces in it."""
    if not isinstance(value, str):
        return value
    if field == "url":  # whose scheme may be omitted
        urls = (each.strip() for each in value.split(","))
        return ",".join(each if "://" in each else f"nats://{each}" for each in urls)
    value = value.removeprefix("file://") if field in _FILES else value
    if field in _MAY_REFER and _REFERENCE.match(value):
        raise ConfigurationError(
            f"{path}: {field} is a reference to another store, which is not supported: set it to "
            + ("a file" if field in _FILES else "the secret itself")
        )
    return _expanded(value, environ) if field in _FILES else value


def _expanded(file: str, environ: Mapping[str, str]) -> str:
    file = _VARIABLE.sub(lambda found: environ.get(found[1].strip("{}"), ""), file)
    is_at_home = file == "~" or file.startswith("~/")
    return f"{_home(environ)}{file[1:]}" if is_at_home else file


def _problem(field: str) -> str:
    if field in _REFUSED:
        return f"is not supported: {_REFUSED[field]}"
    near = difflib.get_close_matches(field, [*_FIELDS, *_WITHOUT_MEANING], n=1)
    return f"is not known; did you mean {near[0]}?" if near else "is not known"
