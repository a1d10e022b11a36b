"""The faults: each breaks one thing for a while, mends it, and says what it was.

A fault is over when nothing is broken any more; what the system needs from then on is its recovery.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, closing, suppress
from typing import NamedTuple

from nats.errors import Error as NatsError

from eventstore.server.embedded import EmbeddedServer
from tests.fault.checker.system import DOMAIN, Service, System

Inject = Callable[["Injector"], Awaitable[str]]


class Kind(NamedTuple):
    """A kind of fault: how often it is chosen beside others, and what it needs of the system."""

    inject: Inject
    weight: int = 1
    needs: str = ""


class Injector:
    """Injects faults into a system; `chance` decides where and how long, times `scale`."""

    def __init__(self, system: System, chance: random.Random, scale: float = 1.0) -> None:
        self.system = system
        self.chance = chance
        self._scale = scale

    async def pause(self, low: float, high: float) -> str:
        """Let some seconds pass, and say how many."""
        seconds = self.chance.uniform(low, high) * self._scale
        await asyncio.sleep(seconds)
        return f"{seconds:.1f} s"

    def service(self) -> Service:
        """One of the services."""
        return self.chance.choice(self.system.services)

    def server(self) -> tuple[int, EmbeddedServer]:
        """One of the servers, and its number."""
        number = self.chance.randrange(len(self.system.servers))
        return number, self.system.servers[number]

    def possible(self) -> list[str]:
        """The kinds that this system can have, each as often as its weight says."""
        kinds = [name for name, kind in KINDS.items() if not self.reason(name)]
        return [name for name in kinds for _ in range(KINDS[name].weight)]

    def reason(self, kind: str) -> str:
        """Why the system cannot have a kind of fault; empty if it can."""
        needed = KINDS[kind].needs
        if needed == "cluster" and self.system.routes is None:
            return "needs several servers"
        return self.system.missing.get(needed, "")


async def calm(on: Injector) -> str:
    """No fault."""
    return f"for {await on.pause(2, 10)}"


async def kill_service(on: Injector) -> str:
    service = on.service()
    service.signal(signal.SIGKILL)
    return service.name


async def restart_service(on: Injector) -> str:
    service = on.service()
    service.signal(signal.SIGTERM)
    return service.name


async def freeze_service(on: Injector) -> str:
    service = on.service()
    service.signal(signal.SIGSTOP)
    try:
        return f"{service.name} for {await on.pause(1, 12)}"
    finally:
        service.signal(signal.SIGCONT)


async def kill_server(on: Injector) -> str:
    number, server = on.server()
    server.kill()
    try:
        return f"n{number} for {await on.pause(0.2, 4)}"
    finally:
        await server.start()


async def restart_server(on: Injector) -> str:
    number, server = on.server()
    await server.restart()
    return f"n{number}"


async def freeze_server(on: Injector) -> str:
    number, server = on.server()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        return f"n{number} for {await on.pause(1, 8)}"
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def cut_links(on: Injector) -> str:
    name, links = on.chance.choice([*on.system.links.items()])
    with ExitStack() as refusing:
        for link in links:
            refusing.enter_context(link.refusing())
            link.cut()
        return f"{name} from all servers for {await on.pause(0.5, 8)}"


async def break_links(on: Injector) -> str:
    """Cut without refusing: what was on its way is lost, and the next connection works."""
    name, links = on.chance.choice([*on.system.links.items()])
    for _ in range(on.chance.randint(1, 5)):
        for link in links:
            link.cut()
        await on.pause(0.05, 0.5)
    return name


async def lose_acknowledgement(on: Injector) -> str:
    """Cut where a stream's next acknowledgement passes: what it acknowledges is stored."""
    name, links = on.chance.choice([*on.system.links.items()])
    connected = [link for link in links if link.connections]
    lost = [link.cut_after(b'"seq":', "to_client", forward=False) for link in connected]
    with suppress(TimeoutError):
        async with asyncio.timeout(2):
            await asyncio.gather(*(each.wait() for each in lost))
    return name


async def lose_answers(on: Injector) -> str:
    """A half-open link: the server hears the client, and the client does not hear the server."""
    name, links = on.chance.choice([*on.system.links.items()])
    for link in links:
        link.hold("to_client")
    seconds = await on.pause(0.5, 8)
    for link in links:
        link.cut()
        link.release()
    return f"{name} for {seconds}"


async def delay_requests(on: Injector) -> str:
    """The other half: what a client has sent arrives late, when others have gone on."""
    name, links = on.chance.choice([*on.system.links.items()])
    for link in links:
        link.hold("to_server")
    seconds = await on.pause(0.5, 6)
    for link in links:
        link.release()
    return f"{name} for {seconds}"


async def partition(on: Injector) -> str:
    return await _hold_routes(on, both=True)


async def one_way_partition(on: Injector) -> str:
    return await _hold_routes(on, both=False)


async def _hold_routes(on: Injector, *, both: bool) -> str:
    routes, (number, _) = on.system.routes, on.server()
    assert routes is not None
    lonely = f"n{number}"
    with ExitStack() as held:
        for other in routes.ports:
            if other != lonely:
                held.enter_context(routes.held(lonely, other))
                if both:
                    held.enter_context(routes.held(other, lonely))
        return f"{lonely} from the others for {await on.pause(1, 12)}"


async def move_leaders(on: Injector) -> str:
    """Have the streams led by other servers."""
    streams = ("LOG", "CMD", "EVENT")
    async with AsyncExitStack() as stack:
        with suppress(NatsError, OSError, TimeoutError):
            client = await on.system.connect(on.server()[0])
            stack.push_async_callback(client.close)
            for stream in on.chance.sample(streams, on.chance.randint(1, len(streams))):
                subject = f"$JS.API.STREAM.LEADER.STEPDOWN.{DOMAIN.upper()}_{stream}"
                await client.request(subject, b"", timeout=2)
    return "of streams"


async def lock_database(on: Injector) -> str:
    """Another program has the file of the read model for itself."""
    connection = sqlite3.connect(
        on.system.database, timeout=5, isolation_level=None, check_same_thread=False
    )
    with closing(connection):
        with suppress(sqlite3.OperationalError):  # the service may be faster, again and again
            await asyncio.to_thread(connection.execute, "BEGIN EXCLUSIVE")
        return f"for {await on.pause(0.5, 8)}"


async def fill_database_disk(on: Injector) -> str:
    disk = on.system.disks["read_model"]
    disk.fill()
    try:
        return f"for {await on.pause(0.5, 6)}"
    finally:
        disk.free()


async def fill_server_disk(on: Injector) -> str:
    """Fill the disk of the first server, which freezes its streams until it is restarted."""
    disk = on.system.disks["server0"]
    disk.fill()
    try:
        return f"n0 for {await on.pause(0.5, 5)}"
    finally:
        disk.free()
        await on.system.servers[0].restart()


async def jump_clock(on: Injector) -> str:
    """Set the services' clock back or forth, and then right again."""
    seconds = on.chance.choice([-86_400, -3_600, -30, 30, 3_600, 86_400])
    on.system.clock.write_text(f"{seconds:+}\n")
    try:
        return f"{seconds:+} s for {await on.pause(1, 8)}"
    finally:
        on.system.clock.write_text("+0\n")


async def rebuild(on: Injector) -> str:
    """Rebuild a projection beside the services; faults of their own may end it early."""
    name = on.chance.choice(["accounts", "statement"])
    process = await on.system.run("projection", "rebuild", name)
    try:
        status = await asyncio.wait_for(process.wait(), 60)
    except TimeoutError:
        process.kill()
        status = await process.wait()
    return f"{name}, status {status}"


KINDS: dict[str, Kind] = {
    "calm": Kind(calm, 0),
    "kill service": Kind(kill_service, 4),
    "restart service": Kind(restart_service),
    "freeze service": Kind(freeze_service, 2),
    "kill server": Kind(kill_server, 3),
    "restart server": Kind(restart_server),
    "freeze server": Kind(freeze_server, 2),
    "cut links": Kind(cut_links, 2),
    "break links": Kind(break_links, 2),
    "lose acknowledgement": Kind(lose_acknowledgement, 3),
    "lose answers": Kind(lose_answers, 3),
    "delay requests": Kind(delay_requests, 2),
    "partition": Kind(partition, 3, "cluster"),
    "one-way partition": Kind(one_way_partition, 2, "cluster"),
    "move leaders": Kind(move_leaders, 2, "cluster"),
    "lock database": Kind(lock_database, 2),
    "fill database disk": Kind(fill_database_disk, 1, "disk"),
    "fill server disk": Kind(fill_server_disk, 1, "disk"),
    "jump clock": Kind(jump_clock, 1, "clock"),
    "rebuild": Kind(rebuild, 2),
}
