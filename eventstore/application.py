"""The application: client, store, command client and command worker of one domain.

    async with Application(domain, settings) as app:
        outcome = await app.commands.execute(CreateFlake(path=".", description="mine"), "mine")

Processes that need only some of the components can create each by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from eventstore.client.client import Client, connect
from eventstore.client.master_keys import KeyWrapping
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes
from eventstore.concurrency.failures import ungrouped
from eventstore.concurrency.resource import Resource
from eventstore.config import Settings
from eventstore.decider.decider import Domain
from eventstore.jetstream.topology import declare, topology
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

__all__ = ["Application", "Component", "running"]

GRACE_SECONDS = 20.0
"""How long components may take to finish current work after `stop`."""


class Component(Protocol):
    """Something that runs until it is stopped."""

    async def run(self) -> None:
        """Run until `stop`."""

    def stop(self) -> None:
        """Make `run` finish current work and return."""


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


class Application(Resource):
    """One domain's application; an async context manager that runs the command worker.

    `domain` is renamed as the settings say (`nats.subject_prefix`). Entering connects, declares the
    topology, and raises what these raise; leaving stops the worker, which finishes current
    commands, and the writing of snapshots within 2 seconds more. A domain with personal data needs
    a master key, in the settings or as `key_wrapping`: entering raises `MasterKeyError` without
    one, or with another than that of the newest key of a data subject.
    """

    client: Client
    store: EventStore
    commands: CommandClient
    worker: CommandWorker

    def __init__(
        self,
        domain: Domain,
        settings: Settings,
        *,
        telemetry: Telemetry = NO_TELEMETRY,
        key_wrapping: KeyWrapping | None = None,
    ) -> None:
        self.domain = domain.renamed(settings.nats.subject_prefix)
        self._settings = settings
        self._telemetry = telemetry
        self._key_wrapping = key_wrapping

    async def _enter(self, stack: AsyncExitStack) -> None:
        codec = self.domain.codec
        connecting = connect(self._settings, key_wrapping=self._key_wrapping)
        self.client = await stack.enter_async_context(connecting)
        await declare(self.client, topology(codec.subjects, self._settings.streams))
        self.store = await stack.enter_async_context(
            EventStore(self.client, codec, telemetry=self._telemetry)
        )
        if codec.has_personal():
            await self.store.keyring.check()
        outcomes = Outcomes(self.client, codec.subjects)
        self.commands = await stack.enter_async_context(
            CommandClient(self.client, codec, outcomes=outcomes, telemetry=self._telemetry)
        )
        snapshots = await stack.enter_async_context(
            Snapshots(self.client, self.store, telemetry=self._telemetry)
        )
        handler = CommandHandler(
            self.store,
            self.domain,
            outcomes,
            snapshots=snapshots,
            telemetry=self._telemetry,
        )
        self.worker = CommandWorker(
            self.client,
            codec,
            handler,
            identify_senders=self._settings.nats.commands_cross_accounts,
            telemetry=self._telemetry,
        )
        await stack.enter_async_context(running(self.worker))
