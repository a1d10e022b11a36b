"""The configuration that can change while services run, in the domain's key-value bucket.

Each key is known here, with what it may be. A value is JSON; what a person would type in its place
(`debug`, `flakes,packages`) is understood too, so that any NATS tool can set it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from eventstore.client.client import Client
from eventstore.config import QueueLimit
from eventstore.errors import ConfigurationError, JetStreamError
from eventstore.jetstream.key_value import KeyValue
from eventstore.jetstream.vocabulary import ErrorCode
from eventstore.messages.subjects import Subjects
from eventstore.text import bounded
from eventstore.undecodable import UNDECODABLE

__all__ = ["KEYS", "ConfigKey", "RuntimeConfig", "Value", "parse_value"]

Value = str | int | list[str]

_MAX_SHOWN = 100
"""Characters of a value that an error shows."""

_LogLevel = Literal["debug", "info", "warning", "error"]
_Names = list[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]]


class ConfigKey(NamedTuple):
    """What a key's value may be: its type, the same in words, and what it is for."""

    type: Any
    expected: str
    meaning: str


KEYS: Mapping[str, ConfigKey] = {
    "log_level": ConfigKey(
        _LogLevel, "one of debug, info, warning and error", "how much the services log"
    ),
    "projections.paused": ConfigKey(
        _Names, "names of projections, with commas between", "which read models stand still"
    ),
    "commands.queue_limit": ConfigKey(
        QueueLimit, "a whole number from 1 to 1000000000", "how many commands may wait"
    ),
}
"""The keys there are. What else is in the bucket is not configuration."""


def parse_value(key: str, text: str) -> Value:
    """Read a key's value, from JSON or as a person writes it.

    Raises `ConfigurationError`, naming what is wrong, for an unknown key or an illegal value.
    """
    known = _known(key)
    try:
        value: Value = msgspec.json.decode(text.encode(errors="replace"), type=known.type)
    except UNDECODABLE:
        value = _from_plain(key, text)
    return value


class RuntimeConfig:
    """The domain's configuration, read from the bucket's leader; `timeout` is seconds an answer.

    Methods raise `ConfigurationError` for an unknown key, and `ClientError`.
    """

    def __init__(self, client: Client, subjects: Subjects, *, timeout: float = 5.0) -> None:
        self._bucket = KeyValue(client, subjects.config_bucket, timeout=timeout)

    async def get(self, key: str) -> Value | None:
        """The value of a key, None where it is not set; `ConfigurationError` for an illegal one."""
        value, _ = await self._stored(key)
        return value

    async def get_all(self) -> dict[str, Value | None]:
        """Every key there is, with its value; None where it is not set."""
        return {key: await self.get(key) for key in KEYS}

    async def set(self, key: str, text: str) -> Value:
        """Set a key to what `text` says, and return that when the server has it.

        That services have taken it up by then is not guaranteed.
        """
        value = parse_value(key, text)
        await self._bucket.put(key, msgspec.json.encode(value))
        return value

    async def change(
        self, key: str, changed: Callable[[Value | None], Value | None], *, tries: int = 10
    ) -> Value | None:
        """Set a key to what `changed` makes of its value, None for not set; returns that.

        Nobody else's change is lost: `changed` is asked again where somebody was faster, so often
        that `tries` come to an end only by a mistake, and are then told as `JetStreamError`.
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
        raise JetStreamError(conflict, 400, f"configuration key {key} is written by others as well")

    async def unset(self, key: str) -> None:
        """Have what each service was started with count again; also where the key is not set."""
        _known(key)
        await self._bucket.put(key, None)

    async def _stored(self, key: str) -> tuple[Value | None, int]:
        """The value of a key, and the sequence of the message that set it, 0 where none did."""
        _known(key)
        stored = await self._bucket.leader_get(key)
        if stored is None:
            return None, 0
        if not stored.payload:  # a deleted key is an empty message
            return None, stored.sequence
        return parse_value(key, stored.payload.decode(errors="replace")), stored.sequence


def _known(key: str) -> ConfigKey:
    if key not in KEYS:
        near = difflib.get_close_matches(key, KEYS, n=1)
        advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(KEYS)}"
        raise ConfigurationError(f"configuration key {key!r} is not known; {advice}")
    return KEYS[key]


def _from_plain(key: str, text: str) -> Value:
    known = KEYS[key]
    plain: object = text
    if known.type is _Names:
        plain = [name.strip() for name in text.split(",")]
    try:
        value: Value = msgspec.convert(plain, known.type)
    except UNDECODABLE:
        shown = bounded(text, _MAX_SHOWN)
        raise ConfigurationError(f"{key} cannot be {shown!r}; it is {known.expected}") from None
    return value
