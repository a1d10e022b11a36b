"""Catching up: projects a log into rows and checkpoints in SQLite and in PostgreSQL.

python -m tests.bench.projections [REVISION] compares with another revision, slice by slice.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import NamedTuple

from eventstore import NO_STREAM, EventStore, declare, load_settings, nix, topology
from eventstore.server.embedded import EmbeddedServer
from tests import postgresql_server as postgresql
from tests.bench.read_side import client_of
from tests.bench.read_sides import ROOT, Side, checked_out, side
from tests.bench.report import Limit, Measurement, Quartiles, collected
from tests.bench.size import sized
from tests.bench.store import event

FLAKES = sized(1_000, 300)
INPUTS = 9
END = FLAKES * (INPUTS + 1)
SLICES = sized(5, 3)


class Slice(NamedTuple):
    """Events a second, and the projecting process's microseconds of CPU an event."""

    rate: float
    cpu: float


class Kind(NamedTuple):
    """What is projected, and where to."""

    name: str
    directory: Path
    server: postgresql.PostgresqlServer | None = None
    audited: bool = False

    async def location(self, number: int) -> str:
        """A new, empty database."""
        if self.server is not None:
            return await self.server.create()
        return str(self.directory / f"{self.name.replace(' ', '-')}{number}.sqlite")


async def measure(revision: str = "") -> AsyncIterator[Measurement]:
    """How fast the Nix domain's read models catch up, for each kind of database."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as servers:
        path = Path(directory)
        kinds = [Kind("SQLite", path), Kind("SQLite with the audit index", path, audited=True)]
        if postgresql.programs() is not None:
            server = servers.enter_context(postgresql.PostgresqlServer())
            kinds.append(Kind("PostgreSQL", path, server))
        async with EmbeddedServer(path) as nats, AsyncExitStack() as stack:
            await _fill(nats.url)
            sides = {"here": await stack.enter_async_context(side(ROOT, "catch_up", nats.url))}
            if revision:
                tree = stack.enter_context(checked_out(revision))
                other = await stack.enter_async_context(side(tree, "catch_up", nats.url))
                sides[revision[:8]] = other
            for kind in kinds:
                for measurement in await _compare(sides, kind):
                    yield measurement


async def _fill(url: str) -> None:
    codec = nix.domain().codec
    async with client_of(url) as client, EventStore(client, codec) as store:
        streams = load_settings(environ={}).streams
        await declare(client, topology(codec.subjects, streams))
        created = [
            [nix.FlakeCreated(path=f"./{number}", description=""), *map(event, range(INPUTS))]
            for number in range(FLAKES)
        ]
        limit = asyncio.Semaphore(32)

        async def append(number: int) -> None:
            async with limit:
                await store.append("flake", f"f{number}", created[number], expected=NO_STREAM)

        await asyncio.gather(*map(append, range(FLAKES)))


async def _compare(sides: dict[str, Side], kind: Kind) -> list[Measurement]:
    slices: dict[str, list[Slice]] = {name: [] for name in sides}
    for number in range(SLICES):
        for name in list(sides)[:: 1 if number % 2 else -1]:
            location = await kind.location(number * len(sides) + list(sides).index(name))
            request = {"location": location, "end": END, "audited": kind.audited}
            seconds, cpu = await sides[name].ask(request)
            slices[name].append(Slice(END / seconds, cpu / END * 1e6))
    own, *others = slices.values()
    rates = [statistics.median(each.rate for each in found) for found in slices.values()]
    pairs = zip(own, others[0], strict=True) if others else ()
    ratios = [here.rate / there.rate for here, there in pairs]
    ratio = Quartiles.of(ratios) if ratios else None
    limits = [Limit(name, rate) for name, rate in zip(slices, rates, strict=True)]
    return [
        Measurement(
            name=f"six read models catch up, {kind.name}{f', {name}' if others else ''}",
            rate=rate,
            limit=limits[-1] if found is own and others else None,
            ratio=ratio if found is own else None,
            cpu={"worker": statistics.median(each.cpu for each in found)},
        )
        for (name, found), rate in zip(slices.items(), rates, strict=True)
    ]


def main(revision: str = "") -> list[Measurement]:
    """Run the benchmark, beside another revision if one is named."""
    return collected(measure(revision))


if __name__ == "__main__":
    main(*sys.argv[1:2])
