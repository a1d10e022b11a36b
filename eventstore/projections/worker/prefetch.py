"""Prefetch: the next page of the log is read while a database server applies one.

SQLite gains nothing by it: for each row, its thread gives the interpreter away for a moment, and
then waits until whoever reads gives it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from eventstore.store.reader import Page


async def prefetched(pages: AsyncGenerator[Page, None]) -> AsyncGenerator[Page, None]:
    """The pages of a reader, each read while the one before it is handled, if the log has more.

    At the end of the log nothing is read ahead, so that a page costs no task of its own there.
    What the reader raises is raised after its last page. Whoever made `pages` closes it.
    """
    async for page in pages:
        while page.pending:
            following = asyncio.create_task(_next(pages))
            try:
                yield page
                page = await following
            finally:
                await _ended(following)
        yield page


async def _next(pages: AsyncGenerator[Page, None]) -> Page:
    return await anext(pages)


async def _ended(reading: asyncio.Task[Page]) -> None:
    """Have a page that nobody waits for not be read; its failure is of no interest then."""
    if not reading.done():
        reading.cancel()
        await asyncio.wait([reading])
    if not reading.cancelled():
        reading.exception()
