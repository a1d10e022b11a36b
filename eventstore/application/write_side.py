"""The write side of a running application: client, store, command client and command worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eventstore.application.components import DelayedStart, running
from eventstore.application.start import ReadCheckpoints, opened_log
from eventstore.client.client import Client
from eventstore.client.master_keys import KeyWrapping
from eventstore.commands import CommandClient, CommandHandler, CommandWorker, Outcomes, StateCache
from eventstore.concurrency.resource import Resource
from eventstore.config import Settings
from eventstore.decider.domain import Domain
from eventstore.messages.envelope import utc_now
from eventstore.processes import Process, ProcessRejections
from eventstore.store.snapshots.snapshots import Snapshots
from eventstore.store.store import EventStore
from eventstore.telemetry import NO_TELEMETRY, Telemetry

if TYPE_CHECKING:  # a program that only writes loads no SQLAlchemy
    from eventstore.projections.database.checkpoint import Checkpoint


class WriteSide(Resource):
    """One domain's write side; an async context manager that runs the command worker.

    Before that, the log is opened and compared with what was seen of it, see `opened_log`, which
    reads `checkpoints`; those whose rows are to be rebuilt are in `outdated` afterwards. Meanwhile,
    it is guarded: a log that goes back ends the block. If it `waits`, commands are carried out from
    `begin` on.

    `domain` is renamed if the settings say so (`nats.subject_prefix`). Entering raises what
    `opened_log` raises; leaving stops the worker, which finishes current commands, and the writing
    of snapshots within 2 seconds more. Without `worker`, commands are sent and not carried out. The
    server shows the connection as `name`. `processes` learn of their commands that are rejected. A
    domain with personal data needs a master key, in the settings or as `key_wrapping`: entering
    raises `MasterKeyError` without one, or with another than that of the newest key of a data
    subject.
    """

    client: Client
    store: EventStore
    commands: CommandClient
    worker: CommandWorker
    snapshots: Snapshots
    outdated: Sequence[Checkpoint] = ()

    def __init__(
        self,
        domain: Domain,
        settings: Settings,
        *,
        name: str | None = None,
        worker: bool = True,
        waits: bool = False,
        checkpoints: ReadCheckpoints | None = None,
        processes: Iterable[Process[Any]] = (),
        clock: Callable[[], datetime] = utc_now,
        telemetry: Telemetry = NO_TELEMETRY,
        key_wrapping: KeyWrapping | None = None,
    ) -> None:
        self.domain = domain.renamed(settings.nats.subject_prefix or domain.name)
        self.states = StateCache(settings.operations.state_cache_mb << 20)
        self._settings = settings
        self._name = name
        self._has_worker = worker
        self._waits = waits
        self._checkpoints = checkpoints
        self._processes = tuple(processes)
        self._clock = clock
        self._telemetry = telemetry
        self._key_wrapping = key_wrapping

    async def _enter(self, stack: AsyncExitStack) -> None:
        codec = self.domain.codec
        opening = opened_log(
            *(self.domain, self._settings),
            name=self._name,
            checkpoints=self._checkpoints,
            clock=self._clock,
            telemetry=self._telemetry,
            key_wrapping=self._key_wrapping,
        )
        self.client, self.store, guard, self.outdated = await stack.enter_async_context(opening)
        await stack.enter_async_context(running(guard))
        if codec.has_personal():
            await self.store.keyring.check()
        outcomes = Outcomes(self.client, codec.subjects)
        self.commands = await stack.enter_async_context(
            CommandClient(
                self.client,
                codec,
                outcomes=outcomes,
                clock=self._clock,
                telemetry=self._telemetry,
            )
        )
        self.worker = await self._new_worker(outcomes, stack)
        if self._has_worker:
            self._delayed = DelayedStart(self.worker)
            await stack.enter_async_context(running(self._delayed))
            if not self._waits:
                self.begin()

    def begin(self) -> None:
        """Begin to carry out commands, if that has waited."""
        if self._has_worker:
            self._delayed.begin()

    async def _new_worker(self, outcomes: Outcomes, stack: AsyncExitStack) -> CommandWorker:
        self.snapshots = snapshots = await stack.enter_async_context(
            Snapshots(self.client, self.store, telemetry=self._telemetry)
        )
        if self._has_worker:
            snapshots.report_disabled(self.domain.deciders.values())
        handler = CommandHandler(
            self.store,
            self.domain,
            outcomes,
            states=self.states,
            snapshots=snapshots,
            clock=self._clock,
            telemetry=self._telemetry,
        )
        return CommandWorker(
            self.client,
            self.domain.codec,
            handler,
            identify_senders=self._settings.nats.commands_cross_accounts,
            rejections=ProcessRejections(self._processes, self.store),
            telemetry=self._telemetry,
        )
