"""The TOML file as a source of settings."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from eventstore.config.settings import TABLES
from eventstore.errors import ConfigurationError
from eventstore.messages.undecodable import UNDECODABLE

# Names in cim-domain-nix's own configuration.
_ALIASES = {
    "nats.auth.username": "nats.auth.user",
    "nats.tls.ca_cert": "nats.tls.ca_file",
    "nats.tls.client_cert": "nats.tls.cert_file",
    "nats.tls.client_key": "nats.tls.key_file",
}
_REFUSED = {
    "nats.auth.nkey": "write the seed into a file, and set nats.auth.nkey_seed_file",
    "nats.auth.jwt": "set nats.auth.credentials_file to the file with it and its seed",
    "nats.tls.insecure_skip_verify": "servers are always verified: set nats.tls.ca_file",
    "nats.service.instance_id": "each process generates its own, because it must be unique",
}


def read_toml(path: Path, origin: str = "") -> dict[str, object]:
    """What a TOML file has; raises `ConfigurationError`, with `origin` added to the file's name."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}{origin} cannot be read: {error.strerror}") from error
    except UNDECODABLE as error:  # malformed TOML (with its line), or not UTF-8
        raise ConfigurationError(f"{path}{origin} is not TOML: {error}") from error


def from_file(
    path: Path, origin: str, kinds: Mapping[str, object]
) -> Iterator[tuple[str, object, str]]:
    """Each setting in the file: its key, its value and where it is.

    `origin` is added to the file's name if it cannot be read. Raises `ConfigurationError`.
    """
    tables = read_toml(path, origin)
    written: dict[str, str] = {}
    for name, value in _flattened(tables):
        if name == "nats.tls.insecure_skip_verify" and value is False:
            continue  # which is the only supported behaviour
        key = _ALIASES.get(name, name)
        if key not in kinds:
            raise ConfigurationError(f"{path}: {name} {_unknown(name, kinds)}")
        if key in written:
            raise ConfigurationError(f"{path}: {name} and {written[key]} are the same; keep one")
        written[key] = name
        yield key, value, f"{path}: {name}"


def _flattened(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if key in TABLES and isinstance(value, dict):
            yield from _flattened(value, f"{key}.")
        else:
            yield key, value


def _unknown(key: str, kinds: Mapping[str, object]) -> str:
    if key in TABLES:
        return f"is a table: write [{key}]"
    if key in _REFUSED:
        return f"is not supported: {_REFUSED[key]}"
    near = difflib.get_close_matches(key, [*kinds, *TABLES], n=1)
    return f"is not known; did you mean {near[0]}?" if near else "is not known"
