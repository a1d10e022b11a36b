"""Master keys, which wrap the keys of data subjects, and are never stored in NATS.

The format is one `NAME:KEY` per line, where KEY is 32 bytes in base64; `#` begins a comment. The
name of a KEY without one is derived from it. The first wraps, and all unwrap, so that keys can be
rotated step by step. A wrapped key is bound to its domain, its data subject and its master key
(AES-256-GCM): it cannot be unwrapped for another.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from eventstore.config import PersonalSettings
from eventstore.errors import ConfigurationError, MasterKeyError
from eventstore.messages.encryption import DataKey, cipher_of
from eventstore.messages.text import make_log_records_safe

_BYTES = 32
_NONCE_BYTES = 12
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FOR_OTHERS = 0o077

_logger = make_log_records_safe(logging.getLogger(__name__))


class WrappedKey(msgspec.Struct, frozen=True):
    """A wrapped key, and the id of the master key that wrapped it."""

    master: str
    data: bytes


class KeyWrapping(Protocol):
    """Wraps the keys of data subjects by a master key, as a key management service does.

    It is asynchronous because such a service is called over a network. A wrapped key is bound to
    its `context`, and can be unwrapped with the same context only. Errors other than those named
    here are raised to the reader or writer of personal data.
    """

    @property
    def current(self) -> str:
        """The id of the master key that wraps."""

    async def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Wrap a key of 32 bytes by the current master key."""

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The key; raises `MasterKeyError`, naming the id, if its master key is not known."""


class MasterKeys:
    """Local master keys, by their names; the first wraps. Its `repr` shows names only."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ConfigurationError("at least one master key is needed")
        self._keys = dict(keys)
        self.current = next(iter(self._keys))

    @classmethod
    def parse(cls, text: str, source: str) -> MasterKeys:
        """Read lines of `new_master_key`, separated by line breaks or commas.

        Raises `ConfigurationError`, naming the source and the line but never a key.
        """
        keys: dict[str, bytes] = {}
        for number, line in enumerate(text.replace(",", "\n").splitlines(), start=1):
            entry = line.partition("#")[0].strip()
            if entry:
                name, key = _parsed(entry, f"{source}: line {number}")
                if name in keys:
                    raise ConfigurationError(f"{source}: two master keys are named {name}")
                keys[name] = key
        if not keys:
            raise ConfigurationError(
                f"{source} contains no master key; generate one with `eventstore keys new`"
            )
        return cls(keys)

    def __repr__(self) -> str:
        return f"MasterKeys({', '.join(self._keys)})"

    async def wrap(self, key: bytes, context: bytes) -> WrappedKey:
        """Wrap a key by the first master key."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = cipher_of(DataKey(self._keys[self.current]))
        bound = _bound(self.current, context)
        return WrappedKey(self.current, nonce + cipher.encrypt(nonce, key, bound))

    async def unwrap(self, wrapped: WrappedKey, context: bytes) -> bytes:
        """The key; raises `MasterKeyError` if the master key is not known, or a different one."""
        master = self._keys.get(wrapped.master)
        if master is None:
            raise MasterKeyError(
                f"master key {wrapped.master} is not known, only {', '.join(self._keys)}: "
                "add it to the master keys of this process"
            )
        nonce, data = wrapped.data[:_NONCE_BYTES], wrapped.data[_NONCE_BYTES:]
        try:
            key: bytes = cipher_of(DataKey(master)).decrypt(
                nonce, data, _bound(wrapped.master, context)
            )
        except ConfigurationError:
            raise
        except Exception:  # of a library that is imported only if it is needed
            raise MasterKeyError(
                f"master key {wrapped.master} does not unwrap a key that names it: it is "
                "another key of the same name, or the wrapped key was changed or moved"
            ) from None
        return key


def new_master_key(name: str | None = None) -> str:
    """A new master key as a line of text; without a name, it is derived from the key.

    Raises `ConfigurationError` for a name that is not 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'.
    """
    key = secrets.token_bytes(_BYTES)
    if name is None:
        name = _derived_name(key)
    elif not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"master key name {name!r} is not 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'"
        )
    return f"{name}:{base64.b64encode(key).decode()}"


def configured_master_keys(settings: PersonalSettings) -> MasterKeys | None:
    """The master keys of the settings; None if there are none.

    Raises `ConfigurationError` if the file cannot be read or has another content.
    """
    if settings.master_key is not None:
        return MasterKeys.parse(settings.master_key, "personal.master_key")
    if settings.master_key_file is not None:
        return MasterKeys.parse(_read(settings.master_key_file), str(settings.master_key_file))
    return None


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & _FOR_OTHERS:
            _logger.warning("others may read the master keys in %s: chmod 600", path)
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} contains no master keys: it is not text") from None


def _parsed(entry: str, where: str) -> tuple[str, bytes]:
    name, is_named, encoded = entry.rpartition(":")
    try:
        key = base64.b64decode(encoded.strip(), validate=True)
    except ValueError:
        key = b""
    name = name.strip() if is_named else _derived_name(key)
    if not _NAME.fullmatch(name) or len(key) != _BYTES:
        raise ConfigurationError(
            f"{where} is not NAME:KEY with a key of {_BYTES} bytes in base64; "
            "`eventstore keys new` generates one"
        )
    return name, key


def _derived_name(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]


def _bound(master: str, context: bytes) -> bytes:
    return master.encode() + b"\n" + context
