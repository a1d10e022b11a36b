"""Resources: opened by `async with`, and closed in reverse order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class Resource(ABC):
    """An async context manager; if entering fails, what was opened so far is closed."""

    @abstractmethod
    async def _enter(self, stack: AsyncExitStack) -> None:
        """Open it, and push the callbacks that close it onto the stack."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._enter(stack)
            self._exit_stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit_stack.__aexit__(kind, error, trace)
