"""A run: load and faults side by side, then rest, and what is left for the judge."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from nats.errors import Error as NatsError

from tests.fault.checker import raw
from tests.fault.checker.faults import KINDS, Injector
from tests.fault.checker.history import Call, Fault, History, entries
from tests.fault.checker.load import SETTLE_SECONDS
from tests.fault.checker.system import DOMAIN, ROOT, Shape, System

Report = Callable[[str], None]

_STUCK_SECONDS = 120.0
"""Without any progress, after which what is left counts as never to be done: what a process held
that died is delivered again after half a minute."""


class Run:
    """One run of a system under load; `scale` shortens or lengthens the faults."""

    def __init__(
        self,
        directory: Path,
        shape: Shape,
        seed: int,
        *,
        scale: float = 1.0,
        lanes: int = 8,
        pause_ms: float = 20.0,
        report: Report = lambda _: None,
    ) -> None:
        self.system = System(directory, shape)
        self.history = History(DOMAIN)
        self._directory = directory
        self._seed = seed
        self._lanes = lanes
        self._pause_ms = pause_ms
        self._report = report
        self._injector = Injector(self.system, random.Random(f"{seed}/faults"), scale)  # noqa: S311

    async def under(self, kinds: Iterable[str]) -> History:
        """Run under these faults, one after another, now and then two at once."""
        async with self.system:
            self._skip()
            files = await self.load(kinds)
            await self.rest()
            for service in self.system.services:
                if not await service.stop():
                    self.history.unsettled.append(f"{service.name} did not stop")
            for entry in (entry for file in files for entry in entries(file)):
                kept = self.history.calls if isinstance(entry, Call) else self.history.questions
                kept.append(entry)  # type: ignore[arg-type]
            await self._collect()
        return self.history

    def chosen(self, minutes: float, kinds: Collection[str] = KINDS) -> Iterator[str]:
        """Kinds of faults at random for so long, of those that the system can have."""
        end = time.monotonic() + minutes * 60
        while time.monotonic() < end:
            possible = [each for each in self._injector.possible() if each in kinds]
            yield self._injector.chance.choice(possible)

    def _skip(self) -> None:
        for name in KINDS:
            if reason := self._injector.reason(name):
                self.history.skipped.append(f"{name}: {reason}")
                self._report(f"skipped: {name}: {reason}")

    async def load(self, kinds: Iterable[str]) -> list[Path]:
        """Have clients send while the faults happen; returns the files with what they were told."""
        files = [
            self._directory / f"client{each}.jsonl" for each in range(self.system.shape.clients)
        ]
        clients = [await self._client(number, file) for number, file in enumerate(files)]
        try:
            await self._faults(kinds)
        finally:
            for client in clients:
                client.send_signal(signal.SIGTERM)
            ended = [asyncio.wait_for(client.wait(), SETTLE_SECONDS + 30) for client in clients]
            statuses = await asyncio.gather(*ended)
        self.history.unsettled += [
            f"{file.stem} ended with {status}"
            for file, status in zip(files, statuses, strict=True)
            if status
        ]
        return files

    async def _client(self, number: int, file: Path) -> asyncio.subprocess.Process:
        """A client process, with two connections over links of their own."""
        urls = [await self.system.urls(f"client{number}.{each}") for each in range(2)]
        with (self._directory / f"client{number}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.fault.checker.load", f"{self._seed}/{number}"),
                *(str(file), ";".join(urls), str(self._lanes), str(self._pause_ms)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        await process.stdout.readline()
        return process

    async def _faults(self, kinds: Iterable[str]) -> None:
        running: set[asyncio.Task[None]] = set()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(lambda: asyncio.gather(*running))
            for kind in kinds:
                await self._injector.pause(0.3, 3)
                running = {each for each in running if not each.done() or each.exception()}
                task = asyncio.create_task(self._inject(kind))
                if running or self._injector.chance.random() > 0.25:
                    await asyncio.gather(task, *running)
                    running = set()
                else:
                    running.add(task)

    async def _inject(self, kind: str) -> None:
        began = time.monotonic_ns()
        detail = await KINDS[kind].inject(self._injector)
        self.history.faults.append(Fault(kind, detail, began, time.monotonic_ns()))
        self._report(f"{kind}: {detail}")

    async def rest(self) -> None:
        """Wait until everything that was accepted is done, and shown."""
        before, moved = [""], time.monotonic()
        while left := await self._left():
            if left != before:
                before, moved = left, time.monotonic()
            if time.monotonic() > moved + _STUCK_SECONDS:
                self.history.unsettled += left
                return
            await asyncio.sleep(0.2)

    async def _left(self) -> list[str]:
        async with AsyncExitStack() as stack:
            try:
                client = await self.system.connect()
                stack.push_async_callback(client.close)
                streams = raw.Streams(client, DOMAIN)
                return await streams.pending() + [
                    *raw.behind(self.system.database, await streams.end())
                ]
            except (NatsError, OSError) as error:
                return [f"a server does not answer: {error!r}"]

    async def _collect(self) -> None:
        client = await self.system.connect()
        try:
            streams = raw.Streams(client, DOMAIN)
            self.history.log = await streams.messages("LOG")
            self.history.published = await streams.messages("EVENT")
            self.history.parked = await streams.messages("PARKED")
            self.history.outcomes = await streams.outcomes()
        finally:
            await client.close()
        self.history.rows = raw.rows(self.system.database)
