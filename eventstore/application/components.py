"""Components: whatever runs until it is stopped, and how several run beside a block of code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from eventstore.concurrency.failures import ungrouped

GRACE_SECONDS = 20.0
"""How long components may take to finish current work after `stop`."""


class Component(Protocol):
    """Something that runs until it is stopped."""

    async def run(self) -> None:
        """Run until `stop`."""

    def stop(self) -> None:
        """Make `run` finish current work and return."""


class ReadyComponent(Component, Protocol):
    """One that sets `ready` when it works."""

    ready: asyncio.Event


class DelayedStart:
    """A component that runs when it is told to: `begin`."""

    def __init__(self, component: Component) -> None:
        self._component = component
        self._decided = asyncio.Event()
        self._begins = False

    def begin(self) -> None:
        """Have it run."""
        self._begins = True
        self._decided.set()

    def stop(self) -> None:
        """Have it finish, or never begin."""
        self._component.stop()
        self._decided.set()

    async def run(self) -> None:
        """Run it once it may, until `stop`."""
        await self._decided.wait()
        if self._begins:
            await self._component.run()


@asynccontextmanager
async def running(*components: Component, grace: float = GRACE_SECONDS) -> AsyncIterator[None]:
    """Run components beside a block of code; at its end stop them, within `grace` seconds.

    The first failure of a component ends the block and the other components, and is raised.
    """
    with ungrouped():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run()) for each in components]
            yield
            for each in components:
                each.stop()
            if tasks:
                await asyncio.wait(tasks, timeout=grace)
            for task in tasks:
                task.cancel()
