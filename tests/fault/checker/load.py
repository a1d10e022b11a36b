"""A client process: sends commands at random, some of them again, and writes down what it is told.

    python -m tests.fault.checker.load SEED FILE URLS LANES PAUSE_MS

SIGTERM lets it finish: commands without an outcome are sent again until they have one.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import msgspec

from eventstore.application import ApplicationClient
from eventstore.config import NatsSettings, RetrySettings, Settings
from eventstore.errors import EventStoreError
from tests.fault.checker import bank
from tests.fault.checker.history import Call, Entry, Question, line_of

ACCOUNTS = 20
SETTLE_SECONDS = 90.0
"""How long a client tries to learn the outcome of a command after it was told to stop."""

_COMMANDS = {
    "open": bank.Open,
    "change_limit": bank.ChangeLimit,
    "deposit": bank.Deposit,
    "withdraw": bank.Withdraw,
    "transfer": bank.Transfer,
}
_WEIGHTS = {"open": 1, "change_limit": 1, "deposit": 4, "withdraw": 4, "transfer": 3}
_FIRST: list[tuple[str, dict[str, Any]]] = [
    ("open", {"limit": 50}),
    ("deposit", {"amounts": [100]}),
    ("transfer", {"target": "a0", "amount": 10}),
    ("withdraw", {"amount": 1}),
    ("withdraw", {"amount": 10_000}),
    ("transfer", {"target": "nobody", "amount": 10}),
]
"""With these each lane begins, before any fault, so that a short run has some of everything."""

_ATTEMPTS = 3
_OPEN, _AGAIN, _REUSED, _BOTH, _ASKS = 0.2, 0.1, 0.02, 0.05, 0.15
"""How often a command without an outcome is sent again, one with an outcome is, its id is used for
another command, a command is sent on two connections at once, and the account is asked for then."""


def data_for(action: str, chance: random.Random) -> dict[str, Any]:
    """What a command asks for; about a third of those that take money are not covered."""
    match action:
        case "open" | "change_limit":
            return {"limit": chance.choice([0, 0, 50, 200])}
        case "deposit":
            return {"amounts": [chance.randint(1, 60) for _ in range(chance.choice([1, 1, 1, 3]))]}
        case "withdraw":
            return {"amount": chance.randint(1, 120)}
        case _:
            return {"target": account(chance, closed=True), "amount": chance.randint(1, 80)}


def account(chance: random.Random, *, closed: bool = False) -> str:
    """The id of an account; with `closed`, now and then one that nobody opens."""
    if closed and chance.random() < 0.2:
        return "nobody"
    return f"a{chance.randrange(ACCOUNTS)}"


class Lane:
    """Sends one command after another; what has no outcome is sent again.

    A command without an outcome is set aside after some attempts, so that the lane goes on.
    """

    def __init__(
        self, clients: list[ApplicationClient], chance: random.Random, file: BinaryIO
    ) -> None:
        self._clients = clients
        self._chance = chance
        self._file = file
        self._last: Call | None = None
        self._open: list[Call] = []

    async def begin(self) -> None:
        """Send the first commands, and ask for the account."""
        own = account(self._chance)
        for action, data in _FIRST:
            await self._send(Call(self._id(), action, own, data, 0))
        if self._last is not None:
            await self._ask(self._last)

    async def run(self, stop: asyncio.Event, pause: float) -> None:
        """Send until told to stop, and settle what is open then."""
        while not stop.is_set():
            await self._step()
            await asyncio.sleep(pause * self._chance.random() * 2)
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._open and time.monotonic() < deadline:
            await self._send(self._open.pop(0))

    async def _step(self) -> None:
        chance = self._chance
        if self._open and chance.random() < _OPEN:
            await self._send(self._open.pop(0))
        elif self._last is not None and chance.random() < _AGAIN:
            await self._try(self._last, chance.choice(self._clients))
        elif self._last is not None and chance.random() < _REUSED:
            await self._try(_reused(self._last), chance.choice(self._clients))
        else:
            await self._send(self._new())

    async def _send(self, call: Call) -> None:
        """Send until there is an outcome, or it takes too long."""
        for _ in range(_ATTEMPTS):
            both = self._chance.random() < _BOTH
            clients = self._clients if both else [self._chance.choice(self._clients)]
            told = await asyncio.gather(*(self._try(call, client) for client in clients))
            done = next((each for each in told if each.outcome is not None), None)
            if done is not None:
                self._last = done
                if self._chance.random() < _ASKS:
                    await self._ask(done)
                return
            await asyncio.sleep(0.05 + 0.2 * self._chance.random())
        self._open.append(call)

    def _new(self) -> Call:
        chance = self._chance
        (action,) = chance.choices([*_WEIGHTS], [*_WEIGHTS.values()])
        return Call(self._id(), action, account(chance), data_for(action, chance), 0)

    def _id(self) -> str:
        return str(UUID(int=self._chance.getrandbits(128), version=4))

    async def _try(self, call: Call, client: ApplicationClient) -> Call:
        call = msgspec.structs.replace(call, outcome=None, error="", answered=None)
        command = msgspec.convert(call.data, _COMMANDS[call.action])
        call.asked = time.monotonic_ns()
        try:
            outcome = await client.execute(
                command,
                call.account,
                command_id=call.command_id,
                timeout=self._chance.choice([0.5, 2.0, 5.0]),
            )
        except EventStoreError as error:
            call.error = f"{error.code}: {error}"
        else:
            call.outcome = msgspec.to_builtins(outcome)
        call.answered = time.monotonic_ns()
        self._write(call)
        return call

    async def _ask(self, call: Call) -> None:
        outcome = call.outcome or {}
        question = Question(call.account, outcome["position"], time.monotonic_ns(), 0, 0)
        client = self._chance.choice(self._clients)
        try:
            answer = await client.queries.ask(
                bank.GetAccount(id=call.account), wait_for=question.wanted, timeout=2.0
            )
        except EventStoreError:
            return
        question.answered = time.monotonic_ns()
        question.position = answer.position
        question.row = {"balance": answer.data.balance, "limit": answer.data.limit}
        self._write(question)

    def _write(self, entry: Entry) -> None:
        self._file.write(line_of(entry))
        self._file.flush()


def _reused(call: Call) -> Call:
    """Another command with the same id, which must be refused."""
    data = {"amounts": [1, 2, 3, 4]}
    return msgspec.structs.replace(call, action="deposit", data=data, is_reuse=True)


def settings(urls: str) -> Settings:
    """Settings of an impatient client of the servers behind these URLs."""
    retry = RetrySettings(reconnect_delay_ms=50, max_reconnect_delay_ms=500, reconnect_jitter_ms=50)
    return Settings(nats=NatsSettings(retry=retry)).with_url(urls)


async def main(seed: str, file: Path, urls: list[str], lanes: int, pause: float) -> None:
    """Run the lanes on a connection through each list of URLs, until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(bank.app.client(settings(each))) for each in urls
        ]
        output = stack.enter_context(file.open("ab"))
        started = [
            Lane(clients, random.Random(f"{seed}/{number}"), output)  # noqa: S311
            for number in range(lanes)
        ]
        await asyncio.gather(*(lane.begin() for lane in started))
        print("ready", flush=True)
        await asyncio.gather(*(lane.run(stop, pause) for lane in started))


if __name__ == "__main__":
    _, seed, file, urls, lanes, pause = sys.argv
    asyncio.run(main(seed, Path(file), urls.split(";"), int(lanes), float(pause) / 1000))
