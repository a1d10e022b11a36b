"""Pages: what is read some items at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Pages(ABC, Generic[T]):
    """An async iterator of pages, none of them empty.

    Unlike an asynchronous generator, it holds nothing open: whoever has read enough leaves it.
    """

    @abstractmethod
    async def next_page(self) -> list[T]:
        """The next page; an empty one at the end, and not to be called after that."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[T]:
        page = await self.next_page()
        if not page:
            raise StopAsyncIteration
        return page


class ReadyPages(Pages[T]):
    """Pages that have been read before."""

    def __init__(self, pages: Iterable[list[T]] = ()) -> None:
        self._pages = iter(pages)

    async def next_page(self) -> list[T]:
        """See `Pages`."""
        return next(self._pages, [])
