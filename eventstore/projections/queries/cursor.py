"""Cursors: where a part of a list ended, as a text that only the same list takes back.

A cursor holds the values of what the list is sorted by, of the last item that was given. Nothing is
kept for it, and it stays good however the list changes. It is no secret, and no proof of anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement

from eventstore.errors import InvalidPayload
from eventstore.messages.queries import ListQuery
from eventstore.undecodable import UNDECODABLE

__all__ = ["decode", "encode", "types"]

_DIGEST_BYTES = 8

T = TypeVar("T")


def encode(query: ListQuery[Any], by: Sequence[object], place: object) -> str:
    """The cursor behind an item, whose values of what the list is sorted `by` are the `place`."""
    content = msgspec.json.encode(place)
    return base64.urlsafe_b64encode(_digest(query, by, content) + content).decode().rstrip("=")


def decode(query: ListQuery[Any], by: Sequence[object], place: type[T]) -> T:
    """The place that the cursor `query.after` holds.

    Raises `InvalidPayload` for what is no cursor, or that of another list or of other filters.
    """
    try:
        text = (query.after or "").encode("ascii")
        padding = b"=" * (-len(text) % 4)
        data = base64.b64decode(text + padding, altchars=b"-_", validate=True)
        content = data[_DIGEST_BYTES:]
        if data[:_DIGEST_BYTES] != _digest(query, by, content):
            raise _refused(query)
        return msgspec.json.decode(content, type=place)
    except UNDECODABLE as error:
        raise _refused(query) from error


def types(by: Sequence[ColumnElement[Any]]) -> type[tuple[Any, ...]]:
    """The type of a place in a list that is sorted by columns."""
    kinds = tuple(map(_python_type, by))
    return tuple[kinds]  # type: ignore[valid-type]


def _refused(query: ListQuery[Any]) -> InvalidPayload:
    return InvalidPayload(
        f"after: {(query.after or '')[:40]!r} is not a cursor of this list with these filters; "
        'take "next" of the answer before, or leave it out to begin anew'
    )


def _python_type(column: ColumnElement[Any]) -> type[Any]:
    # A type that decorates another does not say what Python has for it.
    return getattr(column.type, "impl_instance", column.type).python_type


def _digest(query: ListQuery[Any], by: Sequence[object], content: bytes) -> bytes:
    cls = type(query)
    filters = msgspec.structs.replace(query, limit=1, after=None)
    what = (cls.__aggregate__, cls.__action__, [str(each) for each in by], filters)
    whole = msgspec.json.encode(what) + b"\n" + content
    return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).digest()
