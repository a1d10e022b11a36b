"""The runtime configuration: settings in a key-value bucket that apply without a restart.

All keys and the types of their values are defined here. A value is JSON; the plain text that a
person would type (`debug`, `flakes,packages`) is accepted too, so that any NATS tool can set it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from eventstore.client.client import Client
from eventstore.config.settings import QueueLimit
from eventstore.errors import ConfigurationError, JetStreamError
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.vocabulary import ErrorCode
from eventstore.messages.subjects import Subjects
from eventstore.messages.text import bounded
from eventstore.messages.undecodable import UNDECODABLE

Value = str | int | list[str]

PAUSED = "projections.paused"
"""The key with the names of the projections that are paused."""

_MAX_SHOWN = 100
"""Characters of a value that an error text contains."""

_LogLevel = Literal["debug", "info", "warning", "error"]
_Names = list[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]]


class ConfigKey(NamedTuple):
    """The type of a key's value, its description, and what the key is for."""

    type: Any
    expected: str
    meaning: str


KEYS: Mapping[str, ConfigKey] = {
    "log_level": ConfigKey(
        _LogLevel, "one of debug, info, warning and error", "how much the services log"
    ),
    PAUSED: ConfigKey(
        _Names, "names of projections, with commas between", "which read models are paused"
    ),
    "commands.queue_limit": ConfigKey(
        QueueLimit, "a whole number from 1 to 1000000000", "how many commands may wait"
    ),
}
"""All configuration keys. The bucket also contains other keys."""


def parse_value(key: str, text: str) -> Value:
    """Parse a key's value, from JSON or plain text.

    Raises `ConfigurationError` for an unknown key or an illegal value.
    """
    known = _known(key)
    value: Value
    try:
        value = msgspec.json.decode(text.encode(errors="replace"), type=known.type)
    except UNDECODABLE:
        plain = [name.strip() for name in text.split(",")] if known.type is _Names else text
        try:
            value = msgspec.convert(plain, known.type)
        except UNDECODABLE:
            shown = bounded(text, _MAX_SHOWN)
            raise ConfigurationError(f"{key} cannot be {shown!r}; it is {known.expected}") from None
    return value


class RuntimeConfig:
    """The domain's configuration, read from the bucket's leader; `timeout` is seconds per request.

    Methods raise `ConfigurationError` for an unknown key, and `ClientError`.
    """

    def __init__(self, client: Client, subjects: Subjects, *, timeout: float = 5.0) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)

    async def get(self, key: str) -> Value | None:
        """The value of a key, None if it is not set; `ConfigurationError` for an illegal one."""
        value, _ = await self._stored(key)
        return value

    async def get_all(self) -> dict[str, Value | None]:
        """The values of all keys; None for those that are not set."""
        return {key: await self.get(key) for key in KEYS}

    async def set(self, key: str, text: str) -> Value:
        """Parse and set a value, and return it when the server has stored it.

        That services have applied it by then is not guaranteed.
        """
        value = parse_value(key, text)
        await self._bucket.put(key, msgspec.json.encode(value))
        return value

    async def change(
        self, key: str, changed: Callable[[Value | None], Value | None], *, tries: int = 10
    ) -> Value | None:
        """Set a key to the result of `changed` on its value (None: not set), and return that.

        Concurrent changes are not lost: if another writer is faster, `changed` is called again.
        Raises `JetStreamError` after `tries` conflicts.
        """
        for _ in range(tries):
            stored, revision = await self._stored(key)
            value = changed(stored)
            data = None if value is None else msgspec.json.encode(value)
            if data is not None:
                parse_value(key, data.decode())
            if await self._bucket.update(key, data, revision):
                return value
        conflict = ErrorCode.WRONG_LAST_SEQUENCE
        raise JetStreamError(
            conflict, 400, f"configuration key {key} is written by others as well; try again"
        )

    async def change_paused(
        self, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> list[str]:
        """Add projections to the paused ones, or remove them; returns all that are paused then."""

        def changed(value: Value | None) -> Value | None:
            names = value if isinstance(value, list) else []
            left = [name for name in dict.fromkeys([*names, *add]) if name not in remove]
            return left or None

        paused = await self.change(PAUSED, changed)
        return paused if isinstance(paused, list) else []

    async def unset(self, key: str) -> None:
        """Delete a key, so that each service uses its default; also if it is not set."""
        _known(key)
        await self._bucket.put(key, None)

    async def _stored(self, key: str) -> tuple[Value | None, int]:
        """The value of a key and its revision, 0 if it was never set."""
        _known(key)
        stored = await self._bucket.leader_get(key)
        if stored is None:
            return None, 0
        if not stored.payload:  # a deleted key has an empty entry
            return None, stored.sequence
        return parse_value(key, stored.payload.decode(errors="replace")), stored.sequence


def _known(key: str) -> ConfigKey:
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(KEYS)}"
        raise ConfigurationError(f"configuration key {key!r} is not known; {advice}")
    return KEYS[key]
