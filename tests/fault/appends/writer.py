"""A writer: a process that appends at random, some of it again, and writes down what it is told.

    python -m tests.fault.appends.writer SEED NAME FILE URLS

All writers take the same numbered appends, each in an order of its own. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from pathlib import Path
from typing import BinaryIO

from eventstore.client.client import connect
from eventstore.errors import EventStoreError
from eventstore.messages.envelope import Identity
from eventstore.messages.events import NewEvent
from eventstore.store import (
    ANY,
    NO_STREAM,
    STREAM_EXISTS,
    Append,
    AppendResult,
    EventStore,
    Expected,
)
from tests.fault.appends.attempts import Attempt, Part, Told, line_of, planned
from tests.fault.checker.load import settings
from tests.fault.checker.system import DOMAIN
from tests.integration.ledger import Deposited, ledger

LANES = 4

_NAMED: dict[str | int, Expected] = {
    "any": ANY,
    "no_stream": NO_STREAM,
    "stream_exists": STREAM_EXISTS,
}
_AGAIN, _OLD, _STALE = 0.2, 0.1, 0.15
"""How often the last append is repeated, an earlier one is, and a version is a wrong one."""


class Writer:
    """Appends by number; knows of each aggregate the version that it was told last."""

    def __init__(self, store: EventStore, seed: str, name: str, file: BinaryIO) -> None:
        self._store = store
        self._seed = seed
        self._chance = random.Random(f"{seed}/{name}")  # noqa: S311
        self._file = file
        self._versions: dict[str, int] = {}
        self._number = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Append until told to stop."""
        while not stop.is_set():
            await self._attempt(self._next())
            await asyncio.sleep(0.01 * self._chance.random())

    def _next(self) -> int:
        chance = self._chance.random()
        if chance < _AGAIN:
            return self._number
        if chance < _AGAIN + _OLD:
            return self._chance.randrange(self._number + 1)
        self._number += 1
        return self._number

    async def _attempt(self, number: int) -> None:
        parts = planned(self._seed, number)
        for part in parts:
            part.expected = self._expected(part.aggregate_id)
        attempt = Attempt(number, parts, time.monotonic_ns())
        try:
            results = await self._store.append_all(*map(_append, parts))
        except EventStoreError as error:
            attempt.result = error.code
        else:
            attempt.result = "recorded"
            attempt.told = [self._learned(each) for each in results]
        attempt.answered = time.monotonic_ns()
        self._file.write(line_of(attempt))
        self._file.flush()

    def _expected(self, aggregate_id: str) -> str | int:
        version = self._versions.get(aggregate_id)
        if version is None:
            return self._chance.choice(["any", "no_stream"])
        wrong = self._chance.choice([-1, 1]) if self._chance.random() < _STALE else 0
        named: list[str | int] = ["any", "stream_exists"]
        return self._chance.choice([*named, version, max(version + wrong, 0)])

    def _learned(self, result: AppendResult) -> Told:
        known = self._versions.get(result.aggregate_id, 0)
        self._versions[result.aggregate_id] = max(known, result.version)
        return Told(result.version, list(result.positions), result.duplicate)


def _append(part: Part) -> Append:
    return Append(
        aggregate="account",
        aggregate_id=part.aggregate_id,
        events=[
            NewEvent(data=Deposited(), identity=Identity(each, each, each))
            for each in part.event_ids
        ],
        expected=_NAMED.get(part.expected, part.expected),  # type: ignore[arg-type]
    )


async def main(seed: str, name: str, file: Path, urls: str) -> None:
    """Append until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        connect(settings(urls)) as client,
        EventStore(client, ledger(DOMAIN)) as store,
    ):
        with file.open("ab") as output:
            writer = Writer(store, seed, name, output)
            print("ready", flush=True)
            await asyncio.gather(*(writer.run(stop) for _ in range(LANES)))


if __name__ == "__main__":
    _, seed, name, file, urls = sys.argv
    asyncio.run(main(seed, name, Path(file), urls))
