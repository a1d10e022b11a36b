"""Command digests: whether a command id that comes again names the same command.

A digest is kept with the outcome, and on the events. It has two parts: one of what the command is
and which aggregate it is for, one of its data. The data count as they are understood, so that the
order of fields, white space, and whether a default is written out or left out make no difference.
Both depend on the command's id, so that equal commands do not have equal digests.

Where the aggregate's events hold personal data, the events have the first part only: a digest of
what was forgotten would still tell whether a guess is right. The outcome, which is not kept for
long, has both.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct

from eventstore.messages.types import Command

__all__ = ["digest_of", "is_other", "without_data"]

_TARGET_DIGITS = 16
_DATA_DIGITS = 32

_SIMPLE = frozenset({str, int, bool, float, type(None)})

_encode = msgspec.json.Encoder(order="deterministic").encode


def digest_of(command: Command, aggregate_id: str, command_id: str) -> str:
    """The digest of a command as it was read: two parts with a dash between."""
    cls = type(command)
    target = f"{command_id}\n{cls.__aggregate__}\n{cls.__action__}\n{aggregate_id}\n".encode()
    data = _encode(_plain(command))
    return f"{_hash(target)[:_TARGET_DIGITS]}-{_hash(target + data)[:_DATA_DIGITS]}"


def without_data(digest: str) -> str:
    """The part of a digest that says nothing of the command's data."""
    return digest.partition("-")[0]


def is_other(digest: str | None, kept: str | None) -> bool:
    """Whether two commands of one id are known to differ; what has no digest may be the same."""
    if digest is None or kept is None:
        return False
    pairs = zip(digest.split("-"), kept.split("-"), strict=False)
    return any(one != other for one, other in pairs)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _plain(value: Any) -> Any:
    """What a value says, without the defaults: a field that is added later must not change it."""
    kind: Any = type(value)
    if kind in _SIMPLE:
        return value
    if isinstance(value, Struct):
        said = dict(_tag(kind))
        for name, written, default, factory in _fields(kind):
            own = getattr(value, name)
            usual = default if factory is NODEFAULT else factory()
            if type(own) is not type(usual) or own != usual:
                said[written] = _plain(own)
        return said
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


@functools.cache
def _fields(cls: type[Struct]) -> list[tuple[str, str, Any, Any]]:
    """Each field's name, its name in JSON, its default and what makes that."""
    return [
        (field.name, field.encode_name, field.default, field.default_factory)
        for field in msgspec.structs.fields(cls)
    ]


@functools.cache
def _tag(cls: type[Struct]) -> list[tuple[str, Any]]:
    tag = cls.__struct_config__.tag
    return [] if tag is None else [("", tag)]
