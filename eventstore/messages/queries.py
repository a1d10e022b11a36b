"""The base classes of queries: messages that know the type of their answer.

    class FlakeView(Struct):
        id: str
        path: str

    class GetFlake(Query[FlakeView], subject="flake.get"):
        id: str

    class ListFlakes(ListQuery[FlakeView], subject="flake.list"):
        path: str | None = None

A query is sent to `{domain}.query.{aggregate}.{action}`; the client ignores fields of the answer
that it does not know.
"""

from __future__ import annotations

import typing
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from msgspec import Meta, Struct

from eventstore.errors import DeciderError, InvalidPayload
from eventstore.messages.decoders import decoder_of
from eventstore.messages.types import Message
from eventstore.messages.undecodable import UNDECODABLE

DEFAULT_ITEMS = 50
"""The default `limit` of a list."""

MAX_ITEMS = 1_000
"""The largest `limit` of a list."""

MAX_WAIT = 30.0
"""The longest time that a query waits for a position, in seconds."""

WAIT_POSITION = "X-Wait-Position"
"""The header that holds the log position which the answer must reflect."""

WAIT_TIMEOUT = "X-Wait-Timeout"
"""The header that holds the timeout of that wait in milliseconds."""

A = TypeVar("A")
Q = TypeVar("Q", bound="Query[Any]")
I = TypeVar("I")  # noqa: E741  # an item of a list


class Query(Message, Generic[A], forbid_unknown_fields=True):
    """A query to the read models, with the type of its answer: `Query[FlakeView]`.

    Class argument: `subject="{aggregate}.{action}"`. A payload with a field that the class does
    not have is refused. Raises `DeciderError` for a class that does not name its answer's type.
    """

    __answer__: ClassVar[Any] = None
    """The type of the answer."""

    __label__: ClassVar[str]
    """The query's type in headers, metrics and traces: the class's name, unless it is declared."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__label__ = cls.__dict__.get("__label__", cls.__name__)
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin = typing.get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Query):
                known, given = origin.__answer__, typing.get_args(base)
                cls.__answer__ = given[0] if known is None else known[given]
        if cls.__answer__ is None:
            raise DeciderError(f"{cls.__name__}: name the type of its answer, as in Query[View]")


class Listed(Struct, Generic[I], frozen=True, kw_only=True):
    """A page of a list: its items, and the cursor of the next page, None after the last."""

    items: list[I]
    next: str | None = None


class ListQuery(Query[Listed[I]], Generic[I]):
    """A query for a list, answered in pages: `ListQuery[FlakeView]`.

    Each page has at most `limit` items and begins behind `after`, the `next` of the page before,
    which was requested with the same filters. An item that is in the list throughout is in exactly
    one page, whatever is added or removed meanwhile.
    """

    limit: Annotated[
        int, Meta(ge=1, le=MAX_ITEMS, description="At most so many items in one answer.")
    ] = DEFAULT_ITEMS
    after: Annotated[str | None, Meta(description="Go on behind this cursor.")] = None


def read_query(kind: type[Q], payload: bytes) -> Q:
    """Read a query; no payload counts as `{}`. Raises `InvalidPayload`."""
    try:
        return decoder_of(kind).decode(payload or b"{}")
    except UNDECODABLE as error:
        raise InvalidPayload(f"query {kind.__label__}: {error}") from error
