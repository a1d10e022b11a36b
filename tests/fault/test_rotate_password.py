"""The runbook's entry *Rotate a password*, on three servers with the shipped configuration."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from eventstore import Client, CommandClient, connect, nix
from eventstore.config import Settings
from eventstore.errors import AuthenticationFailed, ClientError, CommandTimeout
from eventstore.messages.subjects import Subjects
from tests.attack.running import until_led
from tests.fault.selling import id_of, raw
from tests.integration.command_line import RunningProcess
from tests.integration.commanding import until
from tests.shipped import ShippedServers

BOUND = 120.0
AT_ONCE = 4
NIX = Subjects("nix")

pytestmark = pytest.mark.timeout(300)


class Developers:
    """They create flakes, one after another, and repeat what was not answered, with its id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.done: list[str] = []

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """They begin within the block, and end what they have begun after it."""
        ends = asyncio.Event()
        async with (
            CommandClient(self._client, nix.domain("nix").codec) as commands,
            asyncio.TaskGroup() as group,
        ):
            for name in range(AT_ONCE):
                group.create_task(self._work(commands, f"f{name}", ends))
            try:
                yield
            finally:
                ends.set()

    async def until_more(self) -> None:
        """Wait until some more is done than now."""
        enough = len(self.done) + 10 * AT_ONCE

        async def is_done() -> bool:
            return len(self.done) >= enough

        await until(is_done, BOUND)

    async def _work(self, commands: CommandClient, name: str, ends: asyncio.Event) -> None:
        number = 0
        while not ends.is_set():
            flake = f"{name}-{number}"
            create = nix.CreateFlake(path=f"./{flake}", description="")
            try:
                await commands.execute(create, flake, command_id=id_of(flake), timeout=5)
            except (ClientError, CommandTimeout):
                await asyncio.sleep(0.1)
            else:
                self.done.append(flake)
                number += 1


async def test_the_passwords_of_service_and_user_are_rotated_while_commands_are_carried_out(
    tmp_path: Path,
) -> None:
    with ShippedServers(tmp_path, 3).running() as shipped:
        async with shipped.client("developer") as client:
            developers = Developers(client)
            with shipped.command_line("service").serving() as old:
                await until_led(shipped)
                async with developers.working():
                    await developers.until_more()
                    shipped.passwords.update(service="new", reader="new")
                    await restart(shipped, 0, client)
                    await developers.until_more()
                    command_line = shipped.command_line("service", url=shipped.urls[0])
                    with command_line.start("serve") as new:
                        assert (await asyncio.to_thread(new.line)).startswith("ready: ")
                        await stopped(old)
                        await developers.until_more()
                        for number in (1, 2):
                            await restart(shipped, number, client)
                            await developers.until_more()
                        await only_the_new_password_of(shipped, "reader")
                        await only_the_new_password_of(shipped, "service")
                        await until_healthy(client)
                        await stopped(new)
        async with shipped.client("service") as service:
            events = await raw(service, NIX.log_stream)
        made = Counter(each.subject.split(".")[3] for each in events)
        assert set(made.values()) == {1}
        assert made.keys() >= set(developers.done)


async def restart(shipped: ShippedServers, number: int, client: Client) -> None:
    """Restart a server, and wait until every stream is whole again, as the service finds it."""
    await asyncio.to_thread(shipped.restart, number)
    await until_healthy(client, "streams")


async def until_healthy(client: Client, check: str | None = None) -> None:
    """Wait until the service finds itself healthy, or one of its checks."""

    async def is_healthy() -> bool:
        with suppress(ClientError):
            found = json.loads((await client.request("health.nix", timeout=5)).data)
            status: str = (found["details"][check] if check else found)["status"]
            return status == "healthy"
        return False

    await until(is_healthy, BOUND)


async def stopped(service: RunningProcess) -> None:
    ended = await asyncio.to_thread(service.stopped, signal.SIGTERM)
    assert ended.status == 0, ended


async def only_the_new_password_of(shipped: ShippedServers, user: str) -> None:
    """It opens each server, and the old one none."""
    new = shipped.settings(user)
    old = replace(new, nats=replace(new.nats, auth=replace(new.nats.auth, password=user)))
    for url in shipped.urls:
        async with connect(at(new, url)) as client:
            await client.flush()
        with pytest.raises(AuthenticationFailed):
            await Client.open(at(old, url))


def at(settings: Settings, url: str) -> Settings:
    return replace(settings, nats=replace(settings.nats, url=url))
