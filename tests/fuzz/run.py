"""Fuzzing a running service: it answers, parks or passes over what comes, and does not grow."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client as Nats
from nats.errors import Error as NatsError

from tests.fault.checker import raw
from tests.fault.checker.system import DOMAIN, Shape, System
from tests.fuzz.messages import Hostile, message
from tests.fuzz.wire import INBOX, Answer, Wire
from tests.processes import descriptors, resident

BATCH = 200
_ANSWER_SECONDS = 30.0
_SETTLED_SECONDS = 120.0
_GROWTH = 64 << 20
"""Bytes that a process may have more at the end than at the half: a page of caches, not a leak."""
_DESCRIPTORS = 20
_STATUS = f"{DOMAIN}.query.command.get_status".encode()
_IDS = re.compile(rb"(?i)(?:X-Event-ID|Nats-Msg-Id):([^\r\n]*)")


@dataclass
class Result:
    """What a run has seen: `findings` is what must not be."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    parked: int = 0
    export: bytes = b""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


async def fuzz(
    directory: Path, seed: int, count: int, report: Callable[[str], None] = lambda _: None
) -> Result:
    """Send so many messages to a service of its own, and look what has become of all of it."""
    shape = Shape(small_disks=False, fake_time=False)
    async with System(directory, shape) as system:
        run = _Fuzz(system, seed)
        async with Wire(system.servers[0].port) as wire:
            for _ in range(0, count, BATCH):
                await run.batch(wire, min(BATCH, count - sum(run.result.sent.values())))
                report(run.progress())
            await run.settle(wire)
        await run.export(directory / "log.export")
        if not await system.services[0].stop():
            run.result.findings.append("the service did not stop")
    return run.result


def _is_known(answer: Answer) -> bool:
    return b'"status":"unknown"' not in answer.payload and b'"command_id"' in answer.payload


class _Fuzz:
    def __init__(self, system: System, seed: int) -> None:
        self.result = Result()
        self._system = system
        self._service = system.services[0]
        self._chance = random.Random(f"{seed}/fuzz")  # noqa: S311
        self._number = 0
        self._accepted: dict[int, list[dict[str, object]]] = {}

    async def batch(self, wire: Wire, count: int) -> None:
        """Send some, and wait until each is answered."""
        sent: dict[int, Hostile] = {}
        for _ in range(count):
            self._number += 1
            each = message(self._chance)
            self.result.sent[each.kind] += 1
            await wire.send(each.subject, each.headers, each.payload, f"{INBOX}.{self._number}")
            if each.is_answered:
                sent[self._number] = each
            else:  # the server may have ended the connection over it
                await wire.flush()
        left = await wire.until_answered({*sent}, _ANSWER_SECONDS)
        for number, each in sent.items():
            self._note(each, wire.answers.pop(number, None))
        self.result.findings += [f"no answer: {sent[number]}"[:600] for number in sorted(left)]
        self._measure()

    def _note(self, sent: Hostile, answer: Answer | None) -> None:
        if answer is None:
            return
        self.result.answered["to nobody" if answer.is_to_nobody else sent.kind] += 1
        try:
            place = json.loads(answer.payload)
        except ValueError:
            return
        is_place = isinstance(place, dict) and place.get("stream") == f"{DOMAIN.upper()}_CMD"
        if is_place and place.get("seq") and not place.get("duplicate"):
            # Found by its place if it is bare, otherwise by the id that it has.
            ids = [
                each.decode(errors="replace").strip() for each in _IDS.findall(sent.headers or b"")
            ]
            asked = [{"stream": place["stream"], "seq": place["seq"]}]
            self._accepted[place["seq"]] = [*asked, *({"message_id": each} for each in ids)]

    def _measure(self) -> None:
        pid = self._service.pid
        if pid is not None:
            self.result.sizes.append((resident(pid), descriptors(pid)))

    def progress(self) -> str:
        """How far it is, in one line."""
        size, files = self.result.sizes[-1] if self.result.sizes else (0, 0)
        done = sum(self.result.sent.values())
        return f"{done:,} messages, {size >> 20} MB, {files} descriptors"

    async def settle(self, wire: Wire) -> None:
        """See that every accepted command has an outcome or is parked, and that all still works."""
        self.result.accepted = len(self._accepted)
        client = await self._system.connect()
        try:
            self.result.findings += await self._unfinished(client)
            parked = await raw.Streams(client, DOMAIN).messages("PARKED")
            self.result.findings += await self._dead(client)
        finally:
            await client.close()
        # The id of a parked command is STREAM-SEQUENCE-TIME-PART; before an event's is a name.
        ids = (each.headers["Nats-Msg-Id"].split("-") for each in parked)
        places = {int(each[1]) for each in ids if each[0] == f"{DOMAIN.upper()}_CMD"}
        self.result.parked = len(places)
        await self._ask(wire, [each for each in self._accepted if each not in places])
        self.result.findings += self._grown()

    async def export(self, path: Path) -> None:
        """Export the log, with all that is foreign in it."""
        process = await self._system.run("export", str(path))
        if await process.wait():
            self.result.findings.append("the log cannot be exported")
        else:
            self.result.export = await asyncio.to_thread(path.read_bytes)

    async def _unfinished(self, client: Nats) -> list[str]:
        streams = raw.Streams(client, DOMAIN)
        deadline = time.monotonic() + _SETTLED_SECONDS
        while left := [each for each in await streams.pending() if "queue" in each]:
            if time.monotonic() > deadline:
                return left
            await asyncio.sleep(0.2)
        return []

    async def _ask(self, wire: Wire, places: list[int]) -> None:
        """Ask for the outcomes of commands that are not parked."""
        for start in range(0, len(places), BATCH):
            known = await self._known(wire, places[start : start + BATCH])
            self.result.findings += [
                f"no outcome of command {place}: {self._accepted[place]}"
                for place in places[start : start + BATCH]
                if place not in known
            ]

    async def _known(self, wire: Wire, places: list[int]) -> set[int]:
        """Those commands whose outcome is known."""
        asked: dict[int, int] = {}
        for place in places:
            for question in self._accepted[place]:
                self._number += 1
                asked[self._number] = place
                data = json.dumps(question).encode()
                await wire.send(_STATUS, None, data, f"{INBOX}.{self._number}")
        await wire.until_answered({*asked}, _ANSWER_SECONDS)
        answers = {number: wire.answers.pop(number, Answer(b"", b"")) for number in asked}
        return {asked[number] for number, each in answers.items() if _is_known(each)}

    async def _dead(self, client: Nats) -> list[str]:
        """What does not work any more: a command and its query, and the service itself."""
        found = [f"the service ended {self._service.restarts} times"][: self._service.restarts]
        name = "after"
        headers = {"X-Aggregate-ID": name, "X-Reply-To": f"{INBOX}s.1"}
        replies = await client.subscribe(f"{INBOX}s.1")
        try:
            await client.request(f"{DOMAIN}.cmd.account.open", b'{"limit":7}', headers=headers)
            outcome = json.loads((await replies.next_msg(30)).data)
            query = json.dumps({"id": name}).encode()
            wait = {"X-Wait-Position": str(outcome["position"])}
            answer = await client.request(f"{DOMAIN}.query.account.get", query, 30, headers=wait)
        except NatsError as error:
            return [*found, f"a good command or query is not answered: {error!r}"]
        if json.loads(answer.data) != {"id": name, "balance": 0, "limit": 7}:
            found.append(f"a good command led to {outcome}, and its query to {answer.data!r}")
        return found

    def _grown(self) -> Iterator[str]:
        sizes = self.result.sizes
        if len(sizes) < 2:
            return
        (half, files), (end, more) = sizes[len(sizes) // 2], sizes[-1]
        if end - half > _GROWTH:
            yield f"the service grew from {half >> 20} to {end >> 20} MB in the second half"
        if more - files > _DESCRIPTORS:
            yield f"the service had {files} descriptors at the half, and {more} at the end"
