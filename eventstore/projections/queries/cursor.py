"""Cursors: the end of a page of a list, as a text that is valid for the same list only.

A cursor contains the sort key of the last item of the page. It needs no state, and stays valid
however the list changes. It is not secret, and proves nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement
from sqlalchemy.types import NullType

from eventstore.errors import InvalidPayload
from eventstore.messages.queries import ListQuery
from eventstore.messages.undecodable import UNDECODABLE

_DIGEST_BYTES = 8

T = TypeVar("T")


def encode(query: ListQuery[Any], by: Sequence[object], key: object) -> str:
    """The cursor after the item with a sort `key`, in a list that is sorted `by` these columns."""
    content = msgspec.json.encode(key)
    return base64.urlsafe_b64encode(_digest(query, by, content) + content).decode().rstrip("=")


def decode(query: ListQuery[Any], by: Sequence[object], kind: type[T]) -> T:
    """The sort key in the cursor `query.after`, which is of the type `kind`.

    Raises `InvalidPayload` for a text that is not a cursor of this list with these filters.
    """
    try:
        text = (query.after or "").encode("ascii")
        padding = b"=" * (-len(text) % 4)
        data = base64.b64decode(text + padding, altchars=b"-_", validate=True)
        content = data[_DIGEST_BYTES:]
        if data[:_DIGEST_BYTES] != _digest(query, by, content):
            raise _refused(query)
        return msgspec.json.decode(content, type=kind)
    except UNDECODABLE as error:
        raise _refused(query) from error


def types(by: Sequence[ColumnElement[Any]], nullable: Sequence[bool]) -> type[tuple[Any, ...]]:
    """The type of the sort keys of a list that is sorted by columns, some of which may be null."""
    kinds = tuple(_type(each) for each in by)
    kinds = tuple(kind | None if null else kind for kind, null in zip(kinds, nullable, strict=True))
    return tuple[kinds]  # type: ignore[valid-type]


def _type(column: ColumnElement[Any]) -> Any:
    """A column's type in Python; whatever JSON has for an expression of an unknown type."""
    # A decorated type does not know its Python type.
    sql_type = getattr(column.type, "impl_instance", column.type)
    return Any if isinstance(sql_type, NullType) else sql_type.python_type


def _refused(query: ListQuery[Any]) -> InvalidPayload:
    return InvalidPayload(
        f"after: {(query.after or '')[:40]!r} is not a cursor of this list with these filters; "
        'take "next" of the answer before, or leave it out to start from the beginning'
    )


def _digest(query: ListQuery[Any], by: Sequence[object], content: bytes) -> bytes:
    cls = type(query)
    filters = msgspec.structs.replace(query, limit=1, after=None)
    what = (cls.__aggregate__, cls.__action__, [_text(each) for each in by], filters)
    whole = msgspec.json.encode(what) + b"\n" + content
    return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).digest()


@lru_cache(maxsize=1024)
def _text(column: object) -> str:
    """The SQL of a column, for which SQLAlchemy compiles it."""
    return str(column)
