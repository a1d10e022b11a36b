"""The base classes of queries: messages that ask, and know the type of their answer.

    class FlakeView(Struct):
        id: str
        path: str

    class GetFlake(Query[FlakeView], subject="flake.get"):
        id: str

    class ListFlakes(ListQuery[FlakeView], subject="flake.list"):
        path: str | None = None

A query is asked on `{domain}.query.{aggregate}.{action}`; the fields of its answer that the asking
side does not know are ignored there.
"""

from __future__ import annotations

import typing
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from msgspec import Meta, Struct

from eventstore.errors import DeciderError
from eventstore.messages.types import Message

__all__ = [
    "DEFAULT_ITEMS",
    "LONGEST_WAIT",
    "MOST_ITEMS",
    "WAIT_POSITION",
    "WAIT_TIMEOUT",
    "ListQuery",
    "Listed",
    "Query",
]

DEFAULT_ITEMS = 50
"""The `limit` of a list that does not name one."""

MOST_ITEMS = 1_000
"""The largest `limit` of a list."""

LONGEST_WAIT = 30.0
"""Seconds for which a query waits for a position at most."""

WAIT_POSITION = "X-Wait-Position"
"""The header that holds the log position which the answer must reflect."""

WAIT_TIMEOUT = "X-Wait-Timeout"
"""The header that says for how many milliseconds to wait for that position."""

A = TypeVar("A")
I = TypeVar("I")  # noqa: E741  # an item of a list


class Query(Message, Generic[A], forbid_unknown_fields=True):
    """A question to the read models, and the type of its answer: `Query[FlakeView]`.

    Class argument: `subject="{aggregate}.{action}"`. A payload with a field that the class does
    not have is refused. Raises `DeciderError` for a class that does not say its answer's type.
    """

    __answer__: ClassVar[Any] = None
    """The type of the answer."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Query):
                known, given = origin.__answer__, typing.get_args(base)
                cls.__answer__ = given[0] if known is None else known[given]
        if cls.__answer__ is None:
            raise DeciderError(f"{cls.__name__}: name the type of its answer, as in Query[View]")


class Listed(Struct, Generic[I], frozen=True, kw_only=True):
    """A part of a list: its items, and the cursor of those that follow, None after the last."""

    items: list[I]
    next: str | None = None


class ListQuery(Query[Listed[I]], Generic[I]):
    """A question for a list, answered in parts: `ListQuery[FlakeView]`.

    Each part has at most `limit` items and begins behind `after`, the `next` of the part before,
    which was asked for with the same filters. What is in the list throughout is in exactly one
    part, whatever is added or removed meanwhile.
    """

    limit: Annotated[
        int, Meta(ge=1, le=MOST_ITEMS, description="At most so many items in one answer.")
    ] = DEFAULT_ITEMS
    after: Annotated[str | None, Meta(description="Go on behind this cursor.")] = None
