"""Command digests: whether a repeated command id names the same command.

A digest is stored with the outcome, and on the events. It has two parts: one of the command's type
and aggregate, one of its data. The decoded data count, so that the order of fields, white space,
and whether a default is written out or left out make no difference. A field that was not sent does
not count, because its default may differ each time. Both depend on the command's id, so that equal
commands do not have equal digests.

The version that a command expects of its aggregate counts as data, so that a command sent once more
with another expectation is another command, and needs an id of its own.

If the aggregate's events have personal data, the events have the first part only: a digest of
forgotten data would still confirm a right guess. The outcome, which expires soon, has both.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import repeat
from typing import Any, Union

import msgspec
from msgspec import NODEFAULT, Raw, Struct

from eventstore.messages.types import Command
from eventstore.messages.undecodable import UNDECODABLE

_TARGET_DIGITS = 16
_DATA_DIGITS = 32

_SIMPLE = frozenset({str, int, bool, float, type(None)})

_UNENCODABLE = (TypeError, *UNDECODABLE)

_encode = msgspec.json.Encoder(order="deterministic").encode


def digest_of(
    command: Command,
    aggregate_id: str,
    command_id: str,
    payload: bytes | None = None,
    expected: int | None = None,
) -> str:
    """The digest of a decoded command: two parts with a dash between.

    `payload` is what it was decoded from; without it, all fields count as sent.
    """
    cls = type(command)
    target = f"{command_id}\n{cls.__aggregate__}\n{cls.__action__}\n{aggregate_id}\n".encode()
    data = _canonical(command, payload)
    if expected is not None:
        data = f"expected {expected}\n".encode() + data
    return f"{_hash(target)[:_TARGET_DIGITS]}-{_hash(target + data)[:_DATA_DIGITS]}"


def without_data(digest: str) -> str:
    """The part of a digest that does not depend on the command's data."""
    return digest.partition("-")[0]


def is_other(digest: str | None, recorded: str | None) -> bool:
    """Whether two commands of one id are known to differ; those without a digest may be equal."""
    if digest is None or recorded is None:
        return False
    pairs = zip(digest.split("-"), recorded.split("-"), strict=False)
    return any(one != other for one, other in pairs)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(command: Command, payload: bytes | None) -> bytes:
    try:
        return _encode(_plain(command, None if payload is None else _json(payload or b"{}")))
    except _UNENCODABLE:  # nested too deeply, say: then the same bytes are the same command
        if payload is None:
            raise
        return payload


def _json(payload: bytes | Raw) -> Any:
    """The payload as plain JSON; None if it cannot be decoded."""
    try:
        return msgspec.json.decode(payload)
    except UNDECODABLE:
        return None


def _plain(value: Any, sent: Any = None) -> Any:
    """A value as JSON in a canonical order.

    `sent` is the JSON that it was decoded from, None if that is not known.
    """
    kind: Any = type(value)
    if kind in _SIMPLE:
        return value
    if (fields := _fields(kind)) is not None:
        return _significant(value, _sent_fields(kind, fields, sent), fields)
    if isinstance(value, dict):
        return _mapping(value, sent)
    if isinstance(value, list | tuple):
        return [_plain(*each) for each in zip(value, _items(sent, len(value)), strict=True)]
    if isinstance(value, set | frozenset):
        members = {_encode(_plain(*each)) for each in _members(value, sent)}
        return [Raw(each) for each in sorted(members)]
    return _json(value) if kind is Raw else value


def _significant(
    value: Any, sent: Mapping[str, Any] | None, fields: Iterable[Any]
) -> dict[str, Any]:
    """The fields that were sent and do not have the default: so new fields change nothing."""
    kind: Any = type(value)
    significant = dict(_tag(kind))
    for field in fields:
        if sent is None or field.encode_name in sent:
            own = getattr(value, field.name)
            made = field.default_factory
            default = field.default if made is NODEFAULT else made()
            if default is NODEFAULT or not _is_same(own, default):
                is_plain = type(own) in _SIMPLE
                significant[field.encode_name] = (
                    own if is_plain else _plain(own, sent and sent[field.encode_name])
                )
    return significant


def _is_same(own: Any, default: Any) -> bool:
    """Whether a value is the default, which need not be of the decoded type."""
    if own is default:
        return True
    if type(own) is float and type(default) is int:
        return own == default
    try:
        return _encode(_plain(own)) == _encode(_plain(default))
    except _UNENCODABLE:
        return False


def _mapping(value: Mapping[Any, Any], sent: Any) -> dict[str, Any]:
    if all(type(key) is str for key in value):
        known = sent if isinstance(sent, dict) else {}
        return {key: _plain(each, known.get(key)) for key, each in value.items()}
    pairs = zip(value.items(), _items(sent, len(value)), strict=True)
    return {_encode(key).decode(): _plain(each, item) for (key, each), item in pairs}


def _items(sent: Any, count: int) -> Iterable[Any]:
    """The JSON that each value of a list or a mapping was decoded from."""
    items = list(sent.values()) if isinstance(sent, dict) else sent
    return items if isinstance(items, list) and len(items) == count else repeat(None, count)


def _members(value: AbstractSet[Any], sent: Any) -> Iterable[tuple[Any, Any]]:
    """The members with their JSON; decoded once more, because a set has no order."""
    kinds: set[Any] = {type(each) for each in value}
    if not isinstance(sent, list) or not kinds or any(_fields(kind) is None for kind in kinds):
        return zip(value, repeat(None))
    try:
        read = msgspec.json.Decoder(Union[tuple(kinds)]).decode  # noqa: UP007  # of a variable
        return [(read(_encode(item)), item) for item in sent]
    except _UNENCODABLE:
        return zip(value, repeat(None))


def _sent_fields(kind: Any, fields: Iterable[Any], sent: Any) -> Mapping[str, Any] | None:
    """The JSON of each field that was sent; None if that is not known."""
    if isinstance(sent, list):
        names = (field.encode_name for field in fields)
        return dict(zip(names, sent[len(_tag(kind)) :], strict=False))
    return sent if isinstance(sent, dict) else None


@functools.cache
def _fields(cls: Any) -> tuple[Any, ...] | None:
    """The fields of a class with their names in JSON and their defaults; None if it has none."""
    if issubclass(cls, Struct):
        return msgspec.structs.fields(cls)
    marks = ("__dataclass_fields__", "__attrs_attrs__", "_field_defaults")
    if not any(hasattr(cls, mark) for mark in marks):
        return None
    info: Any = msgspec.inspect.type_info(cls)
    return tuple(info.fields)


@functools.cache
def _tag(cls: Any) -> list[tuple[str, Any]]:
    tag = cls.__struct_config__.tag if issubclass(cls, Struct) else None
    return [] if tag is None else [("", tag)]
