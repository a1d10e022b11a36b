"""Replicas whose files are put back to an older copy: one of three, and two, which lose the end."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from eventstore.client.client import Client, connect
from eventstore.errors import ClientError
from eventstore.server.embedded import EmbeddedServer
from tests.conftest import settings_for
from tests.integration.command_line import CommandLine
from tests.integration.store.test_append_replicated import cluster

__all__ = ["cluster"]

BOUND = 120.0

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.environ.get("FAULT") != "long", reason="half a minute each: make fault"),
]


class Bank:
    """The example bank on three replicas, whose files can be put back."""

    def __init__(self, servers: list[EmbeddedServer], folder: Path, domain: str) -> None:
        self._servers = servers
        self._folder = folder
        self._copies = folder / "copies"
        self.domain = domain
        self.log = f"{domain.upper()}_LOG"
        self.cli = CommandLine(
            folder,
            EVENTSTORE_APP="examples.bank:app",
            EVENTSTORE_DATABASE="rows.sqlite",
            EVENTSTORE_STREAMS_REPLICAS="3",
            EVENTSTORE_CONFIG="own.toml",
            NATS_URL=",".join(each.url for each in servers),
        )
        (folder / "own.toml").write_text(f'[nats]\nsubject_prefix = "{domain}"\n')

    def deposit(self, count: int) -> None:
        """Deposit as often, one euro each."""
        for _ in range(count):
            subject = f"{self.domain}.cmd.account.deposit"
            words = ("--id", "a", "--data", '{"amount": 1}', "--timeout", BOUND)
            sent = self.cli.call("send", subject, *words)
            assert sent.status == 0, sent

    def keep(self, *numbers: int) -> None:
        """Copy the files of some servers, while they are stopped."""
        self.stop(*numbers)
        for number in numbers:
            shutil.copytree(self._store(number), self._copies / str(number))
        self.start(*numbers)
        self.until_current()

    def put_back(self, *numbers: int) -> None:
        """Put the copies back; the servers are stopped."""
        for number in numbers:
            shutil.rmtree(self._store(number))
            shutil.copytree(self._copies / str(number), self._store(number))

    def empty(self, number: int) -> None:
        """Have a server begin without files; it gets them from the others."""
        self.stop(number)
        shutil.rmtree(self._store(number))
        self.start(number)

    def stop(self, *numbers: int) -> None:
        for number in numbers:
            asyncio.run(self._servers[number].stop())

    def start(self, *numbers: int) -> None:
        for number in numbers:
            asyncio.run(self._servers[number].start())

    def until_current(self) -> None:
        """Wait until each stream of the domain has a leader, and all its replicas are current."""

        async def are_current(client: Client) -> bool:
            wanted = {"subject": f"{self.domain}.>"}
            names = (await client.api("STREAM.NAMES", wanted, timeout=1.0))["streams"] or ()
            infos = [await client.api(f"STREAM.INFO.{name}", timeout=1.0) for name in names]
            return bool(infos) and all(map(_is_current, infos))

        self.until(are_current)

    def until_led(self, number: int) -> None:
        """Have a server lead the log."""

        async def is_led(client: Client) -> bool:
            info = await client.api(f"STREAM.INFO.{self.log}", timeout=1.0)
            if info["cluster"].get("leader") == f"n{number}":
                return True
            preferred = {"placement": {"preferred": f"n{number}"}}
            await client.api(f"STREAM.LEADER.STEPDOWN.{self.log}", preferred, timeout=1.0)
            return False

        self.until(is_led)

    def until(self, seen: Callable[[Client], Awaitable[bool]]) -> None:
        async def ask() -> None:
            settings = settings_for(self.cli.environ["NATS_URL"], self.domain)
            async with asyncio.timeout(BOUND), connect(settings) as client:
                while True:
                    with suppress(ClientError):
                        if await seen(client):
                            return
                    await asyncio.sleep(0.1)

        asyncio.run(ask())

    def until_health(self, status: str, text: str = "") -> None:
        """Wait until the service has this health, which says so."""
        deadline = time.monotonic() + BOUND
        answer = self.cli.call("health")
        while status not in answer.out.split() or text not in answer.out:
            assert time.monotonic() < deadline, answer
            answer = self.cli.call("health")

    def until_rows(self, versions: list[int]) -> None:
        deadline = time.monotonic() + BOUND
        while (found := self.rows()) != versions:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def events(self) -> list[int]:
        """The versions of the account's events in the log."""
        lines = map(json.loads, self.cli.call("events", "--json").lines)
        return [each["version"] for each in lines]

    def rows(self) -> list[int]:
        """The versions of the events in the read model."""
        with closing(sqlite3.connect(self._folder / "rows.sqlite")) as database:
            return [each for (each,) in database.execute("SELECT version FROM movement ORDER BY 1")]

    def _store(self, number: int) -> Path:
        return self._servers[number].data_directory / "jetstream"


def _is_current(info: dict[str, Any]) -> bool:
    cluster = info["cluster"]
    return "leader" in cluster and all(each["current"] for each in cluster.get("replicas", ()))


@pytest.fixture
def bank(cluster: list[EmbeddedServer], tmp_path: Path, domain_name: str) -> Bank:
    return Bank(cluster, tmp_path, domain_name)


def test_one_replica_of_three_that_was_put_back_gets_what_it_lacks(bank: Bank) -> None:
    with bank.cli.serving() as service:
        bank.deposit(3)
        bank.keep(2)
        bank.deposit(3)
        bank.stop(2)
        bank.put_back(2)
        bank.start(2)
        bank.deposit(1)
        bank.until_current()
        bank.until_led(2)
        bank.deposit(1)
        bank.until_health("healthy")
        assert bank.events() == [*range(1, 9)]
        bank.until_rows([*range(1, 9)])
        verified = bank.cli.call("audit", "verify")
        assert verified.status == 0, verified
        ended = service.stopped()
        assert ended.status == 0
        assert "halted" not in ended.err


def test_two_replicas_of_three_that_were_put_back_halt_the_service_until_it_recovers(
    bank: Bank,
) -> None:
    """The third one, which has the end of the log, may not give it up by itself."""
    with bank.cli.serving() as service:
        bank.deposit(3)
        bank.keep(0, 1)
        bank.deposit(3)
        bank.stop(0, 1, 2)
        bank.put_back(0, 1)
        bank.start(0, 1)
        bank.until_led(0)
        bank.start(2)
        bank.until_health("unhealthy", "went back")
        bank.empty(2)
        bank.until_current()
        assert bank.events() == [1, 2, 3]
        planned = bank.cli.call("recover")
        assert "it is what it was up to position 3, and now ends at 3" in planned.out
        assert bank.cli.call("recover", "--yes").status == 0
        bank.until_health("healthy")
        bank.deposit(1)
        assert bank.events() == [1, 2, 3, 4]
        bank.until_rows([1, 2, 3, 4])
        assert service.stopped().status == 0
