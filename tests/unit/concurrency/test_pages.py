"""Pages are an asynchronous iterator that ends with an empty page, and can be left."""

from __future__ import annotations

from eventstore.concurrency.pages import ReadyPages


async def test_pages_are_iterated_up_to_the_empty_one() -> None:
    pages = ReadyPages([[1, 2], [3]])
    assert [page async for page in pages] == [[1, 2], [3]]
    assert [page async for page in ReadyPages[int]()] == []


async def test_pages_that_are_left_can_be_read_on() -> None:
    pages = ReadyPages([[1], [2]])
    async for page in pages:
        assert page == [1]
        break
    assert await anext(pages) == [2]
    assert await pages.next_page() == []
